"""The task database as a file. Begin with `database`, which alone opens it:

- `schema` says what is in it and how one version becomes the next; `sqlite` loads the interpreter's own SQLite, and
  `refusal` says why it refuses
- `place` is the file as the file system has it; `gate` is where those wait in order that found it busy
- `salvage` puts a damaged one aside and rebuilds it, of what `pages` reads without SQLite and `recovered` makes of it
"""
