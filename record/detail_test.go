package record_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
)

func TestDetailHidesValues(t *testing.T) {
	t.Parallel()
	s := &record.Schema{Fields: []record.Field{{Name: "mail", Kind: record.Text}, {Name: "doc", Kind: record.JSON}, {Name: "n", Kind: record.Int}}}
	a := record.Record{record.TextValue("ann@example.org"), record.TextValue(`{"iban":"DE02","colour":"red","list":[{"x":1}]}`), record.TextValue("1")}
	b := record.Record{record.TextValue("bob@example.org"), record.TextValue(`{"iban":"DE03","colour":"blue","list":[]}`), record.NullValue}
	c := comparer(t, s, record.Rule{Path: "/doc/colour", Show: true})
	hashes := regexp.MustCompile(`^legacy #[0-9a-f]{16}, target #[0-9a-f]{16}$`)
	got := map[string]string{}
	for _, d := range c.Compare(a, b) {
		got[d.Path] = c.Detail(d, a, b)
	}
	if len(got) != 5 {
		t.Fatalf("differences: %v", got)
	}
	for path, want := range map[string]string{
		"/doc/colour": `legacy "\"red\"", target "\"blue\""`,
	} {
		if got[path] != want {
			t.Errorf("%s: %s, want %s", path, got[path], want)
		}
	}
	for _, path := range []string{"/mail", "/doc/iban"} {
		if !hashes.MatchString(got[path]) {
			t.Errorf("%s: %s", path, got[path])
		}
	}
	if d := got["/doc/list/0"]; !strings.HasPrefix(d, "legacy #") || !strings.HasSuffix(d, ", target missing") {
		t.Errorf("/doc/list/0: %s", d)
	}
	if d := got["/n"]; !strings.HasSuffix(d, ", target null") {
		t.Errorf("/n: %s", d)
	}
	whole := c.Detail(record.Difference{Path: "/doc"}, a, b)
	if !hashes.MatchString(whole) {
		t.Errorf("a member's show must not reveal the whole document: %s", whole)
	}
	for _, path := range []string{"", "x", "/other", "/doc/~"} {
		if d := c.Detail(record.Difference{Path: path}, a, b); d != "" {
			t.Errorf("detail of the path %q: %s", path, d)
		}
	}
}

func TestDetailHashesAreKeyed(t *testing.T) {
	t.Parallel()
	s, a, b := one(record.Text, ""), text("secret"), text("secreT")
	d := record.Difference{Path: "/f", Class: record.DifferentValue}
	first, second := comparer(t, s), comparer(t, s)
	if first.Detail(d, a, b) == second.Detail(d, a, b) {
		t.Error("two comparers generated the same key")
	}
	if once, twice := first.Detail(d, a, b), first.Detail(d, a, b); once != twice {
		t.Error("the hash changes between calls")
	}
	first, second = first.WithKey([]byte("k")), second.WithKey([]byte("k"))
	if first.Detail(d, a, b) != second.Detail(d, a, b) {
		t.Error("one key gives two hashes")
	}
	// echo -n secret | openssl dgst -sha256 -hmac k
	if got := first.Detail(d, a, a); got != "legacy #"+hmacOfSecret+", target #"+hmacOfSecret {
		t.Error(got)
	}
}

func TestShownValuesAreCut(t *testing.T) {
	t.Parallel()
	c := comparer(t, one(record.Text, ""), record.Rule{Path: "/f", Show: true})
	long := "x" + strings.Repeat("é", 500)
	got := c.Detail(record.Difference{Path: "/f"}, text(long), text("\x00"))
	if want := `legacy "x` + strings.Repeat("é", 127) + `"..., target "\x00"`; got != want {
		t.Errorf("%s", got)
	}
}

const hmacOfSecret = "cc7eb5fa4bdffbf4"
