-- Return the view of a job. Args: id.
return view_of(args.id)
