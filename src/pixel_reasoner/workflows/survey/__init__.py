"""Survey: many media, each with the same questions, in a table (`survey`). `inspect` and `find` use its parts."""
