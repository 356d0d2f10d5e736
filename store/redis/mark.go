package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

//go:embed scripts/mark.lua
var markSource string

//go:embed scripts/claim.lua
var claimSource string

var (
	markScript  = newScript(markSource)
	claimScript = newScript(claimSource)
)

// The names of marks are no record's and no sidecar's: see Template.recordOf. They begin as those of
// sidecars, so that a Redis user who may write versions may write marks.
const (
	registry   = sidecarPrefix + "owners}*owners" // of templates, by pattern
	markSuffix = "}*mark:"
)

const (
	slots      = 16384
	markRanges = 64 // of slots in a cluster, each with a mark: a master with 256 slots in a row has one
)

var _ store.Marker = (*Target)(nil)

// marksOf returns the names of a migration's marks: in a cluster one for each range of slots.
func (t *Target) marksOf(migration string) []string {
	tags := markTags()
	if t.cluster == nil {
		tags = tags[:1]
	}
	names := make([]string, len(tags))
	for n, tag := range tags {
		names[n] = sidecarPrefix + tag + markSuffix + migration
	}
	return names
}

// markTags are hash tags, one in each range of slots.
var markTags = sync.OnceValue(func() []string {
	tags := make([]string, markRanges)
	for n, left := 0, markRanges; left > 0; n++ {
		tag := strconv.Itoa(n)
		if at := slotOf(tag) * markRanges / slots; tags[at] == "" {
			tags[at] = tag
			left--
		}
	}
	return tags
})

// slotOf is the cluster slot of a hash tag: CRC-16/XMODEM, as Redis Cluster's specification has it.
func slotOf(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}

// Claim implements store.Marker.
func (t *Target) Claim(ctx context.Context, m store.Mark, takeOver bool) error {
	pattern := t.template.pattern()
	others, err := t.others(ctx, pattern, m.Owner)
	if err != nil {
		return err
	}
	replace := replaceOwn
	switch {
	case takeOver:
		replace = replaceAny
		if err := t.evictOwners(ctx, others); err != nil {
			return err
		}
	case len(others) > 0:
		return hint.Errorf(hint.Hint{Do: hint.TakeOver, Text: "if that migration is over; else give target.key another text"},
			"%w: %s writes keys that target.key %q may write too", store.ErrOwned, others[0].owner, t.template)
	}
	if _, err := t.owners(ctx, pattern, m.Owner); err != nil {
		return err
	}
	// [one-owner]: looked at again after the registration: of two that claim at once, one sees the
	// other's.
	if others, err = t.others(ctx, pattern, m.Owner); err != nil {
		return err
	} else if len(others) > 0 {
		return fmt.Errorf("%w: %s claims them at the same time", store.ErrOwned, others[0].owner)
	}
	err = t.mark(ctx, m, "", replace)
	if errors.Is(err, store.ErrOwned) {
		return hint.With(err, hint.Hint{Do: hint.TakeOver, Text: "if that migration is over"})
	}
	return err
}

// What a mark may replace; see mark.lua.
const (
	replaceNone = ""
	replaceOwn  = "own"
	replaceAny  = "any"
	removeMark  = "remove"
)

// others returns the registrations of other owners whose keys the pattern may match.
func (t *Target) others(ctx context.Context, pattern, owner string) (others []registration, err error) {
	all, err := t.owners(ctx)
	for _, one := range all {
		if one.owner != owner && meet(pattern, one.pattern) {
			others = append(others, one)
		}
	}
	return others, err
}

// evictOwners removes registrations and their owners' marks: what they still run then stops, as
// on a target that was lost.
func (t *Target) evictOwners(ctx context.Context, others []registration) error {
	for _, other := range others {
		name, _, _ := strings.Cut(other.owner, "@")
		if err := t.markAll(ctx, t.marksOf(name), store.Mark{Owner: other.owner}, "", removeMark); err != nil {
			return err
		}
		if _, err := t.owners(ctx, other.pattern); err != nil {
			return err
		}
	}
	return nil
}

// Owners implements store.Marker.
func (t *Target) Owners(ctx context.Context, owner string) (names []string, err error) {
	others, err := t.others(ctx, t.template.pattern(), owner)
	for _, one := range others {
		names = append(names, one.owner)
	}
	return names, err
}

// CheckMark implements store.Marker.
func (t *Target) CheckMark(ctx context.Context, m store.Mark) error {
	return t.mark(ctx, m, "", replaceNone)
}

// Beat implements store.Marker.
func (t *Target) Beat(ctx context.Context, m store.Mark, next int64) error {
	return t.mark(ctx, m, strconv.FormatInt(next, 10), replaceNone)
}

// mark runs the script mark.lua on every mark of the migration.
func (t *Target) mark(ctx context.Context, m store.Mark, next, replace string) error {
	return t.markAll(ctx, t.marksOf(t.migration), m, next, replace)
}

func (t *Target) markAll(ctx context.Context, names []string, m store.Mark, next, replace string) error {
	commands := make([]*command, len(names))
	for n, name := range names {
		commands[n] = &command{
			key: name, script: markScript, keys: []string{name},
			args: []any{m.Owner, m.Incarnation, strconv.FormatInt(m.Beat, 10), next, replace},
			once: next != "", // [beat-first]: sent again, its own number would look like one that was given out twice
		}
	}
	t.send(ctx, commands)
	var failed error
	for n, c := range commands {
		err := c.err
		if err == nil {
			err = t.markError(ctx, m, names[n], c.value)
		}
		// [mark-lost]: what one mark proves counts, although another part does not answer.
		if errors.Is(err, store.ErrMarkLost) {
			return err
		}
		var ahead, other *store.BeatAheadError
		if failed == nil || errors.As(err, &ahead) && (!errors.As(failed, &other) || other.Beat < ahead.Beat) {
			failed = err
		}
	}
	if failed != nil {
		return fmt.Errorf("look at the target's mark: %w", failed)
	}
	return nil
}

func (t *Target) markError(ctx context.Context, m store.Mark, name string, reply any) error {
	list, ok := reply.([]any)
	if !ok || len(list) != 3 {
		return fmt.Errorf("unexpected reply %T of the script", reply)
	}
	owner, beat := fmt.Sprint(list[1]), fmt.Sprint(list[2])
	lost := func(cause error, what string) error {
		return hint.Errorf(store.MarkHint(t.migration, cause.Error()),
			"%w: %s %s; expected the mark %q of %s with beat %d or later", cause, t.whoAnswers(ctx, name), what, name, m.Owner, m.Beat)
	}
	switch list[0] {
	case "ok":
		return nil
	case "absent":
		return lost(store.ErrMarkLost, "has no mark")
	case "other":
		return lost(fmt.Errorf("%w (%w)", store.ErrMarkLost, store.ErrOwned), fmt.Sprintf("has the mark of %q", owner))
	case "incarnation":
		return lost(store.ErrMarkLost, "has the mark of another claim")
	case "behind":
		return lost(store.ErrMarkLost, "is at beat "+beat)
	case "ahead":
		n, err := strconv.ParseInt(beat, 10, 64)
		if err != nil {
			return fmt.Errorf("the mark %q has no number: %w", name, err)
		}
		return &store.BeatAheadError{Beat: n}
	}
	return fmt.Errorf("unexpected reply %q of the script", list[0])
}

// whoAnswers describes the server that has the name's slot, as far as it can be asked.
func (t *Target) whoAnswers(ctx context.Context, name string) string {
	client, ok := t.client.(*goredis.Client)
	if t.cluster != nil {
		var err error
		if client, err = t.cluster.MasterForKey(ctx, name); err != nil {
			return "the target"
		}
	} else if !ok {
		return "the target"
	}
	where := "the server at " + client.Options().Addr
	if client.Options().Addr == "FailoverClient" {
		where = "the master under Sentinel"
	}
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return where
	}
	keys, err := client.DBSize(ctx).Result()
	if err != nil {
		return where
	}
	// Nothing that changes from look to look: a log reports the same failure once.
	empty := ""
	if keys == 0 {
		empty = ", empty"
	}
	return fmt.Sprintf("%s (run id %.12s%s)", where, infoField(info, "run_id"), empty)
}

// registration is a template's owner.
type registration struct{ pattern, owner string }

// owners reads the registry, after it has registered a pattern's owner, or removed a pattern
// that is given alone.
func (t *Target) owners(ctx context.Context, change ...string) ([]registration, error) {
	args := make([]any, len(change))
	for n, a := range change {
		args[n] = a
	}
	c := &command{key: registry, script: claimScript, keys: []string{registry}, args: args}
	t.send(ctx, []*command{c})
	if c.err != nil {
		return nil, fmt.Errorf("read the owners of the target's keys: %w", c.err)
	}
	list, ok := c.value.([]any)
	if !ok {
		return nil, fmt.Errorf("read the owners of the target's keys: unexpected reply %T", c.value)
	}
	found := make([]registration, 0, len(list)/2)
	for n := 0; n+1 < len(list); n += 2 {
		found = append(found, registration{fmt.Sprint(list[n]), fmt.Sprint(list[n+1])})
	}
	return found, nil
}

// pattern describes the keys of the template: its literals, as Go quotes them, and between
// them the bytes that a column's text may have: "*" any, else a quoted list.
func (t *Template) pattern() string {
	parts := make([]string, 0, 2*len(t.columns)+1)
	for n, literal := range t.literals {
		parts = append(parts, strconv.Quote(literal))
		if n < len(t.columns) {
			if sh := t.columns[n].shape; sh.text {
				parts = append(parts, "*")
			} else {
				parts = append(parts, strconv.Quote(sh.bytes))
			}
		}
	}
	return strings.Join(parts, " ")
}

// atom is one byte of a literal, or a run of any length of bytes out of a set.
type atom struct {
	literal byte
	run     bool
	set     string // of a run; "": any byte
}

// meet reports whether a key may match both patterns. What can't be read may.
func meet(a, b string) bool {
	x, okX := atoms(a)
	y, okY := atoms(b)
	if !okX || !okY {
		return true
	}
	// reached[i][j]: some text leads through the first i atoms of x and the first j of y.
	reached := make([][]bool, len(x)+1)
	for i := range reached {
		reached[i] = make([]bool, len(y)+1)
	}
	reached[0][0] = true
	for i := range reached {
		for j := range reached[i] {
			if !reached[i][j] {
				continue
			}
			// A run may be over, and the other side goes on; or both take one byte more.
			if i < len(x) && x[i].run {
				reached[i+1][j] = true
			}
			if j < len(y) && y[j].run {
				reached[i][j+1] = true
			}
			if i == len(x) || j == len(y) {
				continue
			}
			switch p, q := x[i], y[j]; {
			case !p.run && !q.run:
				reached[i+1][j+1] = reached[i+1][j+1] || p.literal == q.literal
			case p.run && !q.run:
				reached[i][j+1] = reached[i][j+1] || p.has(q.literal)
			case !p.run && q.run:
				reached[i+1][j] = reached[i+1][j] || q.has(p.literal)
			}
		}
	}
	return reached[len(x)][len(y)]
}

func (a atom) has(c byte) bool { return a.set == "" || strings.IndexByte(a.set, c) >= 0 }

// atoms reads a pattern.
func atoms(pattern string) (list []atom, ok bool) {
	for n := 0; pattern != ""; n++ {
		if rest, cut := strings.CutPrefix(pattern, "*"); cut {
			list, pattern = append(list, atom{run: true}), strings.TrimPrefix(rest, " ")
			continue
		}
		quoted, err := strconv.QuotedPrefix(pattern)
		if err != nil {
			return nil, false
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, false
		}
		pattern = strings.TrimPrefix(pattern[len(quoted):], " ")
		if n%2 == 1 {
			list = append(list, atom{run: true, set: text})
			continue
		}
		for i := range len(text) {
			list = append(list, atom{literal: text[i]})
		}
	}
	return list, true
}
