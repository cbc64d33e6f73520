-- What the issuer of a lease calls it, where that is not the lease's own id.
ALTER TABLE leases ADD COLUMN handle TEXT;
