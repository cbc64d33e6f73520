-- What a lease has for itself of what there are few of, such as a role of a pool: nobody else has it meanwhile.
ALTER TABLE leases ADD COLUMN pool TEXT;
ALTER TABLE leases ADD COLUMN slot TEXT;
CREATE UNIQUE INDEX leases_slots ON leases (pool, slot);
