-- +goose Up
-- The result of a fault stays stored after the instance has learned that it is over.
ALTER TABLE migrator.leases
    ADD COLUMN fault_of text; -- the fault that fault_executed and fault_first_at are about
