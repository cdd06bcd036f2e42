"""What the pages show, one flat class a page. A state is a view: the URL and the database rebuild it at any time."""
