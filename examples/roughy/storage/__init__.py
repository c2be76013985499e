"""Where rows and bytes are kept, and how they are removed."""
