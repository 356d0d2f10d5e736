package postgres

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
)

// parseTable reads a table's name as SQL would: public.products, "Order Items",
// "My Schema"."Order Items". What is not in double quotes is folded to lower
// case. A table without schema is in public.
func parseTable(s string) (pgx.Identifier, error) {
	var parts []string
	rest := s
	for {
		part, tail, err := parseIdentifier(rest)
		if err != nil {
			return nil, fmt.Errorf("table name %s: %w", s, err)
		}
		parts = append(parts, part)
		if tail == "" {
			break
		}
		if tail[0] != '.' {
			return nil, hint.Errorf(hint.Hint{Text: "put names with blanks, dots or other signs in double quotes"}, "table name %s: unexpected %q", s, tail[:1])
		}
		rest = tail[1:]
	}
	switch len(parts) {
	case 1:
		return pgx.Identifier{"public", parts[0]}, nil
	case 2:
		return pgx.Identifier(parts), nil
	default:
		return nil, fmt.Errorf("table name %s: want a table, or a schema and a table", s)
	}
}

func parseIdentifier(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := 0
		for end < len(s) && plain(s[end], end == 0) {
			end++
		}
		if end == 0 {
			return "", "", fmt.Errorf("a name is missing, or must be put in double quotes")
		}
		return strings.ToLower(s[:end]), s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == 0:
			return "", "", fmt.Errorf("a name can't hold a zero byte")
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case b.Len() == 0:
			return "", "", fmt.Errorf("an empty name")
		default:
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("a closing double quote is missing")
}

func plain(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80 ||
		!first && (c >= '0' && c <= '9' || c == '$')
}

// showTable formats a name as an operator would: quoted only where necessary.
func showTable(id pgx.Identifier) string {
	parts := make([]string, len(id))
	for i, part := range id {
		parts[i] = quote(part)
		if name, rest, err := parseIdentifier(part); err == nil && rest == "" && name == part && !strings.HasPrefix(part, `"`) {
			parts[i] = part
		}
	}
	return strings.Join(parts, ".")
}

// quote quotes one identifier.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal formats a text as an SQL string constant that has the same value under every
// setting of standard_conforming_strings.
func literal(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''")
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return "'" + s + "'"
}
