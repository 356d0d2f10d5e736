package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/record"
)

const (
	journalPage = 5000
	// A page is repaired in batches of journalBatch keys, beside each other as far as the store's sessions reach.
	journalBatch = 500
	// journalLocked rows of legacy are read under their locks at a time: their writers wait meanwhile.
	journalLocked = 250
	// journalLimit bounds the journaled keys that a run reads to classify differences.
	journalLimit = 100_000
)

// readJournal reads a page of the journal: the keys after this one, in order.
func readJournal(ctx context.Context, l Ledger, after record.Key) ([]JournaledKey, error) {
	page, err := l.Journal(ctx, after, journalPage)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return page, nil
}

// journaledVersions reads the versions of the journaled keys' lost writes, up to
// journalLimit of them: the journal may hold more than it returns.
func journaledVersions(ctx context.Context, l Ledger) (map[record.Key]record.Version, error) {
	lost := map[record.Key]record.Version{}
	after := record.Key("")
	for len(lost) < journalLimit {
		page, err := readJournal(ctx, l, after)
		if err != nil {
			return nil, err
		}
		for _, j := range page {
			lost[j.Key], after = j.Version, j.Key
		}
		if len(page) < journalPage {
			break
		}
	}
	return lost, nil
}
