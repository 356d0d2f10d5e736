package record

import (
	"fmt"
	"strings"
)

// ParsePointer splits a JSON Pointer (RFC 6901) into its tokens. The pointer of
// the whole record, "", has none.
func ParsePointer(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("path %q must begin with a slash: %q", pointer, AppendPointer("", pointer))
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, token := range tokens {
		for at := strings.IndexByte(token, '~'); at >= 0; {
			if at+1 >= len(token) || token[at+1] != '0' && token[at+1] != '1' {
				return nil, fmt.Errorf("path %q: a ~ is written ~0 and a / inside a name ~1", pointer)
			}
			next := strings.IndexByte(token[at+1:], '~')
			if next < 0 {
				break
			}
			at += 1 + next
		}
		tokens[i] = pointerUnescape.Replace(token)
	}
	return tokens, nil
}

// AppendPointer returns the pointer to the member name of the value at pointer.
func AppendPointer(pointer, name string) string {
	if strings.ContainsAny(name, "~/") {
		name = pointerEscape.Replace(name)
	}
	return pointer + "/" + name
}

// Replacer tries its pairs at each position once, so ~01 reads ~1, not /.
var (
	pointerEscape   = strings.NewReplacer("~", "~0", "/", "~1")
	pointerUnescape = strings.NewReplacer("~0", "~", "~1", "/")
)
