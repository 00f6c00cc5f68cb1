"""What is read: the report and the comparison as pages, Markdown, JSON and pictures."""
