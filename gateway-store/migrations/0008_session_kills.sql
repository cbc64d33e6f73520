-- Who asks another gateway to end a session, and why: JSON; empty where an older version asks.
ALTER TABLE session_ends ADD COLUMN asked TEXT NOT NULL DEFAULT '';
