"""`forebay demo`: the whole road on recorded data, with real processes, files, keys and sockets.

folder.py   the working folder: configurations, keys, input files
records.py  generated Chinese text records with personal data
road.py     agent and receiver as child processes, watched through the spool
search.py   search of files for the original identifiers
facts.py    what the ledger and the receiver's database say, and what must hold of it
report.py   the summary for people
picture.py  the pictures
"""
