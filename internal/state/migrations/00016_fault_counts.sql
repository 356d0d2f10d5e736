-- +goose Up
-- What came of a fault stays known when the instance has heard that it is over.
ALTER TABLE migrator.leases
    ADD COLUMN fault_of text; -- the fault that fault_executed and fault_first_at are about
