"""A first stage for images of twice the side, trained from the weights of the present one."""
