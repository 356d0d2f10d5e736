package record

import "testing"

func TestChangedInside(t *testing.T) {
	t.Parallel()
	enum := func(labels ...string) Inside { return Inside{Type: "public.mood", Enum: true, Parts: labels} }
	composite := func(parts ...string) Inside { return Inside{Type: "public.place", Parts: parts} }
	base := []Inside{enum("sad", "ok"), composite("street text", "felt mood")}
	for name, c := range map[string]struct {
		now  []Inside
		want string
	}{
		"the same":        {base, ""},
		"not known":       {nil, ""},
		"another order":   {[]Inside{base[1], base[0]}, ""},
		"a label more":    {[]Inside{enum("new", "sad", "ok"), base[1]}, ""},
		"a label less":    {[]Inside{enum("sad"), base[1]}, "public.mood"},
		"a label renamed": {[]Inside{enum("blue", "ok"), base[1]}, "public.mood"},
		"attribute more":  {[]Inside{base[0], composite("street text", "felt mood", "nr integer")}, "public.place"},
		"attribute less":  {[]Inside{base[0], composite("street text")}, "public.place"},
		"another type":    {[]Inside{base[0], composite("street varchar", "felt mood")}, "public.place"},
		"attributes swap": {[]Inside{base[0], composite("felt mood", "street text")}, "public.place"},
	} {
		got := ""
		for _, in := range ChangedInside(InsideText(base), InsideText(c.now)) {
			got += in.Type
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := ChangedInside("", InsideText(base)); got != nil {
		t.Errorf("an earlier release noted none: %v", got)
	}
}
