package phases

import (
	"strings"
	"testing"
)

func TestTwoPeopleForComplete(t *testing.T) {
	t.Parallel()
	at, to := Route{Phase: Retain}, Route{Phase: Complete}
	approved := func(s Settings, actors ...string) GateResult {
		e := ready(at)
		e.Actor, e.Approvals = "ann", nil
		for _, a := range actors {
			e.Approvals = append(e.Approvals, Approval{Actor: a, To: Complete, Epoch: 7, ConfigHash: "c1", Expires: noon.Add(1)})
		}
		gates := Gates(to, s, e)
		return gates[len(gates)-1]
	}
	if g := approved(DefaultSettings(), "ann"); g.Open() || !g.Interlock || !strings.Contains(g.Detail, "two people") {
		t.Errorf("ann alone: %+v", g)
	}
	e := ready(at)
	e.Actor, e.Approvals = "ann", []Approval{
		{Actor: "ann", To: Complete, Epoch: 7, ConfigHash: "c1", Expires: noon.Add(-1)},
		{Actor: "bob", To: Complete, Epoch: 7, ConfigHash: "c1", Expires: noon},
		{Actor: "ann", To: Complete, Epoch: 7, ConfigHash: "c1", Expires: noon.Add(1)},
	}
	gates := Gates(to, DefaultSettings(), e)
	if g := gates[len(gates)-1]; g.Open() || g.Detail != "two people must agree, and the approval of complete by ann does not count for a step that ann takes; the approval of complete by bob expired "+when(noon) {
		t.Errorf("bob's has expired: %+v", g)
	}
	g := approved(DefaultSettings(), "ann")
	if g.Overridden = "in a hurry"; g.Open() {
		t.Error("ann alone, by an override")
	}
	for _, actors := range [][]string{{"ann", "bob"}, {"bob", "ann"}, {"bob"}} {
		if g := approved(DefaultSettings(), actors...); !g.Open() || g.Detail != "approved by bob" {
			t.Errorf("%v: %+v", actors, g)
		}
	}
	one := DefaultSettings()
	one.Approval.TwoPeople = nil
	if g := approved(one, "ann"); !g.Open() || g.Interlock {
		t.Errorf("where one is enough: %+v", g)
	}
}
