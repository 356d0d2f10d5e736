package phases

import (
	"encoding/json"
	"testing"
)

// TestShadowKnowsNoneFromZero: no share that is set is another thing than to compare nothing, in every
// form that it is stored and shown in.
func TestShadowKnowsNoneFromZero(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Shadow{
		`{"phase":"grace","percent":0,"epoch":1}`:               0,
		`{"phase":"grace","percent":0,"epoch":1,"shadow":0}`:    SetShadow(0),
		`{"phase":"grace","percent":0,"epoch":1,"shadow":0.25}`: SetShadow(25),
		`{"phase":"grace","percent":0,"epoch":1,"shadow":100}`:  SetShadow(All),
	} {
		var r Route
		if err := json.Unmarshal([]byte(text), &r); err != nil || r.Shadow != want {
			t.Errorf("%s: %v, %v", text, r.Shadow, err)
		}
		if got, err := json.Marshal(r); err != nil || string(got) != text {
			t.Errorf("%s, %v, want %s", got, err, text)
		}
		if p, set := r.Shadow.Percent(); set == r.Shadow.IsZero() || set && SetShadow(p) != want {
			t.Errorf("%s: %v, %t", text, p, set)
		}
	}
	for _, text := range []string{"", "-1", "100.01", "0.001", "NaN", "none"} {
		var s Shadow
		if s.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is read as %q", text, s)
		}
	}
}
