package secrets_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/notify/secrets"
)

// TestSecrets: what is no secret is refused, and repeated by no error.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const key, whsec = "0123456789abcdef0123456789abcdef", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	for text, want := range map[string][]string{
		whsec:                           {key},
		" " + whsec + " \r\n\n":         {key},
		"a secret of some length":       {"a secret of some length"},
		whsec + "\nthe former secret\n": {key, "the former secret"},
	} {
		got, err := secrets.Parse(text)
		if err != nil || len(got) != len(want) || string(got[0]) != want[0] || len(got) == 2 && string(got[1]) != want[1] {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "there are 0", "\t\n": "there are 0", "a1\nb2\nc3": "there are 3", "whsec_!c4": "not base64"} {
		_, err := secrets.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c4") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
