package redis

import (
	"bytes"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// sidecarPrefix is the prefix of the keys that hold versions beside records.
const sidecarPrefix = "migrator:v:{"

// hashTag is the part of a Redis key that a cluster computes the slot from: the
// text between the first { and the next }, unless it is empty.
func hashTag(key string) (tag string, ok bool) {
	open := strings.IndexByte(key, '{')
	if open < 0 {
		return "", false
	}
	length := strings.IndexByte(key[open+1:], '}')
	if length <= 0 {
		return "", false
	}
	return key[open+1 : open+1+length], true
}

// errNoSlot refuses a key in a cluster for which no sidecar name is in the same slot.
var errNoSlot = hint.Errorf(hint.Hint{Text: "use a target.key with a fixed hash tag, or without one"},
	"this key's version can't be kept in the same cluster slot: the key is empty, or has a } and no hash tag")

// sidecar returns the name of the string that holds the version of a deleted record,
// or of one that may expire, in the record's own slot. sameSlot is false if no name is
// in that slot, which matters in a cluster only.
func sidecar(key string) (name string, sameSlot bool) {
	if tag, ok := hashTag(key); ok {
		return sidecarPrefix + tag + "}" + key, true
	}
	return sidecarPrefix + key + "}", key != "" && strings.IndexByte(key, '}') < 0
}

// appendSidecar appends the name that sidecar returns.
func appendSidecar(dst, key []byte) (name []byte, sameSlot bool) {
	if bytes.IndexByte(key, '{') >= 0 || bytes.IndexByte(key, '}') >= 0 || len(key) == 0 {
		name, sameSlot := sidecar(string(key))
		return append(dst, name...), sameSlot
	}
	return append(append(append(dst, sidecarPrefix...), key...), '}'), true
}

// recordOf is the inverse of sidecar, for the keys of one template.
func (t *Template) recordOf(name string) (record.Key, error) {
	rest, ok := strings.CutPrefix(name, sidecarPrefix)
	if !ok {
		return "", errUnknownKey
	}
	candidates := []string{strings.TrimSuffix(rest, "}")}
	if _, key, ok := strings.Cut(rest, "}"); ok {
		candidates = append(candidates, key)
	}
	for _, raw := range candidates {
		if again, _ := sidecar(raw); again != name {
			continue
		}
		if key, err := t.Parse(raw); err == nil {
			return key, nil
		}
	}
	return "", errUnknownKey
}

// sidecarPattern is the glob that the sidecars of the template's records match.
func (t *Template) sidecarPattern() string {
	if strings.Contains(strings.Join(t.literals, ""), "}") {
		return globEscape(sidecarPrefix) + "*" // the tag comes first, and its start is unknown
	}
	return globEscape(sidecarPrefix+t.literals[0]) + "*"
}

// globEscape quotes the characters with a meaning in SCAN's patterns.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}
