"""Pictures of a run and of one clip, and the page that shows them."""
