package capture

import (
	"strings"
	"testing"
)

// TestWhyASlotIsInvalid: each reason leads to another remedy.
func TestWhyASlotIsInvalid(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"": "max_slot_wal_keep_size", "wal_removed": "max_slot_wal_keep_size",
		"idle_timeout": "idle_replication_slot_timeout", "wal_level_insufficient": "wal_level_insufficient",
	} {
		if got := (slot{reason: reason}).invalidated("s"); !strings.Contains(got, want) || !strings.Contains(got, "the slot s") {
			t.Errorf("%q: %s", reason, got)
		}
	}
}
