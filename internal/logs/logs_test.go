package logs

import (
	"errors"
	"testing"
)

func TestFailuresNote(t *testing.T) {
	t.Parallel()
	down, gone := errors.New("down"), errors.New("gone")
	var f Failures
	for i, c := range []struct {
		job  string
		err  error
		want Change
	}{
		{"a", nil, Same},
		{"a", down, Failed},
		{"a", down, Same},
		{"b", down, Failed},
		{"a", gone, Failed},
		{"a", nil, Recovered},
		{"a", nil, Same},
		{"b", down, Same},
		{"a", gone, Failed},
	} {
		if got := f.Note(c.job, c.err); got != c.want {
			t.Errorf("%d: %s %v: %d, want %d", i, c.job, c.err, got, c.want)
		}
	}
}

func TestOrDiscard(t *testing.T) {
	t.Parallel()
	OrDiscard(nil).Error("discarded")
	if log := OrDiscard(nil); OrDiscard(log) != log {
		t.Error("a logger was replaced")
	}
}
