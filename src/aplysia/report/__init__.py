"""From run folders to tables and pictures: nothing here trains anything."""
