package postgres

import (
	"fmt"
	"testing"
)

func TestSyncNames(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"":                              "[] 0",
		"a, b":                          "[a b] 0",
		"*":                             "[] 1",
		"2 (s1, s2)":                    "[s1 s2] 0",
		"FIRST 1 (a,\"B \"\"c\"\"\",a)": `[a B "c"] 0`,
		"ANY 2 (*)":                     "[] 2",
		`"*"`:                           "[*] 0",
		`"unclosed`:                     "[unclosed] 0",
		"first 3 ( a , * )":             "[a] 3",
	} {
		names, least := syncNames(setting)
		if got := fmt.Sprint(names, " ", least); got != want {
			t.Errorf("%s: %s, want %s", setting, got, want)
		}
	}
}

// TestStandbysThatTheFenceWaitsFor: of which the worst connection of a name counts, and each that is asked for must be there.
func TestStandbysThatTheFenceWaitsFor(t *testing.T) {
	t.Parallel()
	there := walSender{name: "a", streams: true, reported: true, has: true}
	behind, hidden := there, there
	behind.has, hidden.has, hidden.hidden, hidden.streams = false, false, true, false
	for name, c := range map[string]struct {
		r     replication
		named []string // legacy.standbys; nil: it is not set
		want  string
	}{
		"none":                        {replication{}, nil, ""},
		"one streams":                 {replication{senders: []walSender{there}}, nil, "a 0;"},
		"one is behind":               {replication{senders: []walSender{behind}}, nil, "a 1;"},
		"two of a name, one behind":   {replication{senders: []walSender{behind, there}}, []string{"a"}, "a 1;"},
		"two of a name, one hidden":   {replication{senders: []walSender{there, hidden, behind}}, []string{"a"}, "a 2;"},
		"none of a name":              {replication{senders: []walSender{there}}, []string{"b"}, "b 3;"},
		"no standbys by the setting":  {replication{senders: []walSender{there}}, []string{}, ""},
		"any one, and one is there":   {replication{senders: []walSender{there}, sync: "*"}, nil, "a 0;"},
		"any one, and none is there":  {replication{sync: "*"}, nil, "1 of any name 3;"},
		"any two, and one is there":   {replication{senders: []walSender{there}, sync: "ANY 2 (*)"}, nil, "1 of any name 3;a 0;"},
		"by name, and away":           {replication{senders: []walSender{there}, sync: "b"}, nil, "b 3;a 0;"},
		"a slot, and its standby has": {replication{slots: []walSlot{{name: "s", active: true, has: true}}}, nil, "s 0;"},
		"a slot, behind":              {replication{slots: []walSlot{{name: "s", active: true}}}, nil, "s 1;"},
		"a slot, away":                {replication{slots: []walSlot{{name: "s"}}}, nil, "s 3;"},
	} {
		got := ""
		for _, s := range c.r.standbys(c.named) {
			got += fmt.Sprintf("%s %d;", s.name, s.state)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
