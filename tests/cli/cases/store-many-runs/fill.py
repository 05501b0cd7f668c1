"""Puts runs into a store until no number is left for another."""
import sqlite3, sys

db = sqlite3.connect(sys.argv[1])
(n,) = db.execute("SELECT count(*) FROM origin").fetchone()
db.executemany("INSERT INTO origin SELECT ?, by, served, effort, prompt, ? "
               "FROM origin WHERE id = 0", ((i, i) for i in range(n, 65535)))
db.commit()
