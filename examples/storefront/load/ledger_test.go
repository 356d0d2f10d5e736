package load

import "testing"

// Each case is a history of one product: its writes, and what a read that begins afterwards
// may see.
func TestReadVerdicts(t *testing.T) {
	t.Parallel()
	const id = 7
	ack := func(l *Ledger, revision int64, gone bool) {
		l.Begin(gone, id).Acknowledged(Outcome{ID: id, Revision: revision, Deleted: gone, Hash: uint64(revision)})
	}
	type seen struct {
		found    bool
		revision int64
		hash     uint64
	}
	absent := seen{}
	at := func(r int64) seen { return seen{true, r, uint64(r)} }
	for _, c := range []struct {
		name  string
		story func(*Ledger)
		right []seen
		stale []seen
		wrong []seen
	}{
		{"nothing is known", func(*Ledger) {}, []seen{absent, at(1), at(99)}, nil, nil},
		{"it was there from the beginning", func(l *Ledger) { l.Expect(id, 1) }, []seen{at(1), at(2)}, []seen{absent}, nil},
		{
			"a write was acknowledged", func(l *Ledger) { ack(l, 5, false) },
			[]seen{at(5), at(6)},
			[]seen{absent, at(4)},
			[]seen{{true, 5, 1234}},
		},
		{
			"two writes were acknowledged in the other order", func(l *Ledger) { ack(l, 6, false); ack(l, 5, false) },
			[]seen{at(6)},
			[]seen{at(5)},
			nil,
		},
		{"it was deleted", func(l *Ledger) { ack(l, 5, false); ack(l, 5, true) }, []seen{absent, at(9)}, []seen{at(5)}, nil},
		{"it was deleted and created again", func(l *Ledger) { ack(l, 5, true); ack(l, 9, false) }, []seen{at(9)}, []seen{absent, at(5)}, nil},
		{
			"a write failed", func(l *Ledger) { ack(l, 5, false); l.Begin(false, id).Unknown(true) },
			[]seen{at(5), at(6)},
			[]seen{at(4), absent},
			nil,
		},
		{
			"a deletion failed", func(l *Ledger) { ack(l, 5, false); l.Begin(true, id).Unknown(true) },
			[]seen{at(5), absent},
			[]seen{at(4)},
			nil,
		},
		{"a deletion is in flight", func(l *Ledger) { ack(l, 5, false); l.Begin(true, id) }, []seen{at(5), absent}, nil, nil},
		{"a deletion was refused", func(l *Ledger) { ack(l, 5, false); l.Begin(true, id).Rejected() }, []seen{at(5)}, []seen{absent}, nil},
		{"a deletion failed, and a later write succeeded", func(l *Ledger) {
			l.Begin(true, id).Unknown(true)
			ack(l, 9, false)
		}, []seen{at(9)}, []seen{absent}, nil},
		{"a deletion was never answered, and a later write succeeded", func(l *Ledger) {
			l.Begin(true, id).Unknown(false)
			ack(l, 9, false)
		}, []seen{at(9), absent}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := NewLedger()
			c.story(l)
			for want, list := range map[Verdict][]seen{Right: c.right, Stale: c.stale, Wrong: c.wrong} {
				for _, s := range list {
					r := l.BeginRead(id)
					if got, detail := r.Saw(s.found, s.revision, s.hash); got != want {
						t.Errorf("%+v: %s (%s), want %s", s, got, detail, want)
					}
				}
			}
		})
	}
}

func TestReadDuringWriteMaySeeEither(t *testing.T) {
	t.Parallel()
	l := NewLedger()
	l.Expect(1, 5)
	r := l.BeginRead(1)
	w := l.Begin(true, 1)
	w.Acknowledged(Outcome{ID: 1, Revision: 5, Deleted: true})
	l.Begin(false, 1).Acknowledged(Outcome{ID: 1, Revision: 9, Hash: 9})
	for _, s := range []struct {
		found    bool
		revision int64
	}{{true, 5}, {true, 9}, {}} {
		if got, detail := r.Saw(s.found, s.revision, 9); got != Right {
			t.Errorf("%+v: %s %s", s, got, detail)
		}
	}
	if got, _ := l.BeginRead(1).Saw(true, 5, 0); got != Stale {
		t.Errorf("a later read of the old one: %s", got)
	}
}
