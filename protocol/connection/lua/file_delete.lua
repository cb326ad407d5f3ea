-- Delete the record of a client's file, and note its object. Args: id, client (its name in keys), size.
forget_file(files_key(args.client), args.id, string.format('%d', args.size))
