package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// KeyChange is a key of the migration file whose stored value another file changes.
type KeyChange struct {
	Key string `json:"key"` // such as gates.custom[0].below
	// Before and After are absent where the key has no value. A command's arguments are not
	// shown: they may hold a secret.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// String is for a person: reconcile.workers: 2 → 4.
func (c KeyChange) String() string {
	shown := func(value json.RawMessage) string {
		if value == nil {
			return "not set"
		}
		text := []rune(string(value))
		if len(text) > shownValue {
			text = append(text[:shownValue:shownValue], '…')
		}
		return string(text)
	}
	return c.Key + ": " + shown(c.Before) + " → " + shown(c.After)
}

const shownValue = 60 // characters

// hiddenValue stands for a value that is not shown.
var hiddenValue = json.RawMessage(`"(not shown)"`)

// ChangesOf lists the keys in which two stored migration files differ, in the order of their names.
func ChangesOf(before, after []byte) ([]KeyChange, error) {
	documents := [2]any{}
	for i, text := range [][]byte{before, after} {
		in := json.NewDecoder(bytes.NewReader(text))
		in.UseNumber() // a number is its text
		if err := in.Decode(&documents[i]); err != nil {
			return nil, fmt.Errorf("the migration file's JSON can't be decoded: %w", err)
		}
	}
	changes := []KeyChange{}
	err := compareValues("", documents[0], documents[1], func(key string, before, after any) error {
		c := KeyChange{Key: key}
		for value, to := range map[*any]*json.RawMessage{&before: &c.Before, &after: &c.After} {
			if *value == nil {
				continue
			}
			text, err := json.Marshal(*value)
			if err != nil {
				return err
			}
			*to = statedb.NoNUL(text)
			if strings.HasSuffix(key, ".command") {
				*to = hiddenValue
			}
		}
		changes = append(changes, c)
		return nil
	})
	return changes, err
}

// compareValues reports each value that differs: of a list of single values the list, of a list of
// objects and of an object the values inside. A nil is a value that is not there.
func compareValues(path string, before, after any, differs func(key string, before, after any) error) error {
	was, isObject := asObject(before)
	is, alsoObject := asObject(after)
	if isObject && alsoObject && (before != nil || after != nil) {
		keys := slices.Sorted(maps.Keys(was))
		for key := range is {
			if _, both := was[key]; !both {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			if err := compareValues(strings.TrimPrefix(path+"."+key, "."), was[key], is[key], differs); err != nil {
				return err
			}
		}
		return nil
	}
	old, isList := asObjects(before)
	new, alsoList := asObjects(after)
	if isList && alsoList && len(old)+len(new) > 0 {
		for i := range max(len(old), len(new)) {
			var one, other any
			if i < len(old) {
				one = old[i]
			}
			if i < len(new) {
				other = new[i]
			}
			if err := compareValues(fmt.Sprintf("%s[%d]", path, i), one, other, differs); err != nil {
				return err
			}
		}
		return nil
	}
	one, err := json.Marshal(before)
	if err != nil {
		return err
	}
	other, err := json.Marshal(after)
	if err != nil || bytes.Equal(one, other) {
		return err
	}
	return differs(path, before, after)
}

// asObject is an object; what is not there counts as an empty one.
func asObject(v any) (map[string]any, bool) {
	object, ok := v.(map[string]any)
	return object, ok || v == nil
}

// asObjects is a list whose entries are all objects; what is not there counts as an empty one.
func asObjects(v any) ([]any, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, v == nil
	}
	return list, !slices.ContainsFunc(list, func(one any) bool {
		_, ok := one.(map[string]any)
		return !ok
	})
}

// ChangeRefusedError refuses a migration file because of the phase. Nothing of it is stored.
type ChangeRefusedError struct {
	Migration string
	Route     phases.Route
	Changes   []KeyChange // those that are refused
	why       string
	hint      hint.Hint
}

func (e *ChangeRefusedError) Error() string {
	var keys []string
	for _, c := range e.Changes {
		keys = append(keys, c.String())
	}
	return fmt.Sprintf("%s is at %s, where this can't change: %s. %s; nothing was stored", e.Migration, e.Route, strings.Join(keys, ", "), e.why)
}

// Hint implements hint.Hinter.
func (e *ChangeRefusedError) Hint() hint.Hint { return e.hint }

const onlyCapture = `"` + string(phases.CaptureOnly) + `"`

// checkChanges refuses what must not change on the route: *ChangeRefusedError. What comes of keys that
// name columns is compared with the columns that are applied, and not here.
func checkChanges(at phases.Route, before, after Applied, changes []KeyChange) error {
	refused := &ChangeRefusedError{Migration: after.Migration, Route: at}
	if at.Phase != phases.Legacy {
		// Instances with the former file, and what the target has by now, would be of another mapping
		// than what is read and written from here on.
		meanings := sameMeanings(before.Config, after.Config)
		for _, c := range changes {
			if meanings && strings.HasPrefix(c.Key, "compare[") {
				continue
			}
			if migration.RuleOf(c.Key) == migration.Moves {
				refused.Changes = append(refused.Changes, c)
			}
		}
	}
	switch {
	case len(refused.Changes) == 0: // but for reversible
	case at.Phase == phases.Complete:
		refused.why = "What is moved changes in phase legacy only, and from complete no rollback leads there"
		refused.hint = hint.Hint{Text: "write a migration file with another name, for a migration of its own"}
		return refused
	default:
		refused.why = "What is moved changes in phase legacy only"
		refused.hint = hint.Hint{Do: hint.RollbackToLegacy, Text: "and apply there; or write a migration file with another name, for a migration of its own"}
		return refused
	}
	// Without instances that write, and without capture, the target would lack what legacy takes.
	for _, c := range changes {
		if at.Phase != phases.Legacy && at.Phase != phases.Complete && c.Key == "capture.mode" && (string(c.Before) == onlyCapture || string(c.After) == onlyCapture) {
			refused.Changes = []KeyChange{c}
			refused.why = "Whether the application writes the target changes in phase legacy only; from off to beside and back in any"
			refused.hint = hint.Hint{Do: hint.RollbackToLegacy, Text: "and apply there"}
			return refused
		}
	}
	// [return-reversible]: what retain wrote without journalling can't be journalled afterwards.
	if before.Reversible != after.Reversible && statedb.Fenced(at.Phase) {
		was, is := strconv.FormatBool(before.Reversible), strconv.FormatBool(after.Reversible)
		refused.Changes = []KeyChange{{Key: "phases.retain.reversible", Before: json.RawMessage(was), After: json.RawMessage(is)}}
		refused.why = "Writes since the fence were made under the other setting"
		refused.hint = hint.Hint{Do: hint.RollbackToGrace}
		return refused
	}
	return nil
}

// sameMeanings reports whether the rules of two files, in any order, say the same of what values mean.
func sameMeanings(before, after []byte) bool {
	var sets [2]map[[3]string]bool
	for i, text := range [][]byte{before, after} {
		var file struct {
			Compare []struct {
				Path string `json:"path"`
				As   string `json:"as"`
				Zone string `json:"zone"`
			} `json:"compare"`
		}
		if json.Unmarshal(text, &file) != nil {
			return false
		}
		sets[i] = map[[3]string]bool{}
		for _, r := range file.Compare {
			if r.As != "" || r.Zone != "" {
				sets[i][[3]string{r.Path, r.As, r.Zone}] = true
			}
		}
	}
	return maps.Equal(sets[0], sets[1])
}
