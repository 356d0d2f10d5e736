package runbook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// Prober checks what steps need, and changes nothing.
type Prober interface {
	// Explain asks a connection to plan a statement, which takes the privileges to run it;
	// known is false if the statement can't be planned.
	Explain(ctx context.Context, connection, text string) (known bool, err error)
	// Command parses a command line of migrator's.
	Command(words []string) error
	// Members returns the members of a role of the state database.
	Members(ctx context.Context, role string) ([]string, error)
}

// probeWithin bounds the check of one step.
const probeWithin = 10 * time.Second

// Verify checks whether every block could run, without running any that changes something:
// programs exist, statements can be planned with the present privileges, endpoints answer, DNS
// names are not cached for too long, some role member may approve. It returns one check for
// each block and connection.
func (t *Executors) Verify(ctx context.Context, p Prober) []store.Check {
	var checks []store.Check
	for _, s := range t.Book.Blocks() {
		within, cancel := context.WithTimeout(ctx, probeWithin)
		c := t.probe(within, p, s)
		cancel()
		if ctx.Err() != nil {
			return checks
		}
		c.Name = s.ID
		c.Detail = t.Redact.Text(c.Detail)
		checks = append(checks, c)
	}
	return checks
}

// refused is a check's result with where the runbook has what to change.
func refused(err error, where string) store.Check {
	return store.Check{Result: store.Refused, Detail: err.Error(), Hint: hint.Hint{Text: where}}
}

func good(format string, args ...any) store.Check {
	return store.Check{Result: store.Good, Detail: fmt.Sprintf(format, args...)}
}

func warned(format string, args ...any) store.Check {
	return store.Check{Result: store.Warned, Detail: fmt.Sprintf(format, args...)}
}

func (t *Executors) probe(ctx context.Context, p Prober, s *Step) store.Check {
	at := fmt.Sprintf("line %d of the runbook", s.Line)
	switch s.Language {
	case "sh", "bash":
		return t.probePrograms(s, at)
	case "migrator":
		for text := range strings.Lines(s.Body) {
			words, err := shellWords(text)
			if err == nil && len(words) > 0 {
				err = p.Command(words)
			}
			if err != nil {
				return refused(fmt.Errorf("%s: %w", strings.TrimSpace(text), err), at)
			}
		}
		return good("the command parses")
	case "sql":
		known, err := p.Explain(ctx, s.On, s.Body)
		switch {
		case err != nil:
			return refused(err, at)
		case known:
			return good("%s can run it", s.On)
		case t.Book.Connections[s.On].Pooler:
			return good("the console of %s answers", s.On)
		}
		return warned("%s answers; several statements, or statements other than a query, can't be checked without running them", s.On)
	case "promql":
		d, err := t.promQL(ctx, s)
		var not *NotMetError
		if err != nil && !errors.As(err, &not) {
			return refused(err, at)
		}
		return good("the answer is %s now", strings.TrimSpace(d.Output))
	case "http":
		return t.probeHTTP(ctx, s, at)
	case "dns":
		d, err := t.dns(ctx, &Step{Kind: Check, Language: "dns", Body: s.Body, Attributes: Attributes{MaxTTL: s.MaxTTL, Server: s.Server}}, func(string) {})
		if err != nil {
			return refused(err, "lower the names' time to live first; "+at)
		}
		return good("%s", strings.ReplaceAll(strings.TrimSpace(d.Output), "\n", "; "))
	}
	return t.probePerson(ctx, p, s, at)
}

func (t *Executors) probePrograms(s *Step, at string) store.Check {
	found := programs(s)
	if s.Language == "bash" {
		found = append(found, "bash")
	}
	var missing []string
	for _, name := range found {
		if strings.Contains(name, "/") && !strings.HasPrefix(name, "/") && t.Dir != "" {
			continue // relative to where it is run
		}
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return refused(fmt.Errorf("%s: no such program on this machine", strings.Join(missing, ", ")), at)
	}
	if len(found) == 0 {
		return good("the shell reads it")
	}
	return good("the shell reads it, and finds %s", strings.Join(found, ", "))
}

// probeHTTP sends the request if it changes nothing; otherwise it only connects.
func (t *Executors) probeHTTP(ctx context.Context, s *Step, at string) store.Check {
	asked, err := request(s.Body)
	if err == nil {
		_, err = t.token(s)
	}
	if err != nil {
		return refused(err, at)
	}
	if !s.Kind.changes() {
		if _, err := t.http(ctx, s); err != nil {
			return refused(err, at)
		}
		return good("%s answers", asked.url)
	}
	u, err := url.Parse(asked.url)
	if err != nil {
		return refused(err, at)
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // net knows http and https
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return refused(err, at)
	}
	_ = conn.Close()
	return good("%s accepts connections", u.Host)
}

func (t *Executors) probePerson(ctx context.Context, p Prober, s *Step, at string) store.Check {
	if s.Kind != Approve {
		return good("it waits for %s", s.For)
	}
	if s.Role == "" {
		return good("the migration's deciders approve")
	}
	members, err := p.Members(ctx, s.Role)
	switch {
	case err != nil:
		return refused(err, at)
	case len(members) == 0:
		return refused(fmt.Errorf("the role %s has no member who may log in, or does not exist: no one could approve", s.Role), at)
	}
	return good("%s may approve", strings.Join(members, ", "))
}
