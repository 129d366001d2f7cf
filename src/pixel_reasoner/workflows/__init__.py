"""Complete tasks that combine several packages. `api` and the command line call them."""
