package oneline_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stranglerfig/migrator/internal/oneline"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                           "",
		"Zoë → 100 %, C:\\new":       "Zoë → 100 %, C:\\new",
		"a\nb\tc\r":                  `a\nb\tc\r`,
		"\x1b[2J\x1b]0;pwned\x07":    `\x1b[2J\x1b]0;pwned\a`,
		"a\u202eb\u2028c\u00a0d":     `a\u202eb\u2028c\u00a0d`,
		"\u009b31m\x7f\xff\xc3(\x00": `\u009b31m\x7f\xff\xc3(\x00`,
		"\ufffd":                     "\ufffd",
		"\U000e0041":                 `\U000e0041`,
	} {
		if got := oneline.Escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := oneline.Of(strings.Repeat("é", 400) + "\n"); got != strings.Repeat("é", 300)+" ..." {
		t.Errorf("%q", got)
	}
	if got := oneline.Of(strings.Repeat("\n", 300)); got != strings.Repeat(`\n`, 300) {
		t.Errorf("%q", got)
	}
	if got := oneline.Markdown("a|b`c[d](e)<f>&\\\n"); got != `a\|b`+"\\`"+`c\[d\](e)&lt;f>&amp;\\\\n` {
		t.Errorf("%q", got)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\nb\x1b")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range oneline.Escape(text) {
			if r != ' ' && !unicode.IsPrint(r) {
				t.Fatalf("%q shows %q", text, r)
			}
		}
		if again := oneline.Escape(oneline.Escape(text)); again != oneline.Escape(text) {
			t.Fatalf("%q is escaped twice: %q", text, again)
		}
	})
}
