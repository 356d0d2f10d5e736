// Package bench measures the program itself, as it is built, on private servers:
// full and sampled reconcile runs and backfills, to Redis and to PostgreSQL, beside
// the limits of the machine and beside the tools that people have, on the same data
// in the same run. make bench prints the tables.
package bench
