-- Names of the keys that a gateway opens sealed values with, the one that it seals with first.
ALTER TABLE nodes ADD COLUMN sealing TEXT;
