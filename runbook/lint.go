package runbook

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// languages are those that each kind allows.
var languages = map[Kind][]string{
	Check:   {"sh", "bash", "sql", "migrator", "promql", "http", "dns"},
	Verify:  {"sh", "bash", "sql", "migrator", "promql", "http", "dns"},
	Wait:    {"sh", "bash", "sql", "migrator", "promql", "http", "dns", "text"},
	Action:  {"sh", "bash", "sql", "migrator", "http"},
	Undo:    {"sh", "bash", "sql", "migrator", "http"},
	Correct: {"sh", "bash", "sql", "migrator", "http"},
	Approve: {"text"},
}

// Defaults of attributes.
const (
	defaultTimeout   = 30 * time.Second
	actionTimeout    = 2 * time.Minute
	waitTimeout      = 10 * time.Minute
	approvalTimeout  = time.Hour
	defaultStepPause = 2 * time.Second
)

// check checks each step and the references between them. It removes from the order those
// blocks that actions name.
func (p *parser) check() {
	calledBy := map[string]string{}
	for _, s := range p.r.Steps {
		p.attributes(s)
		p.body(s)
		for _, call := range []struct {
			as, id string
			kind   Kind
		}{{"undo", s.Undo, Undo}, {"unless", s.Unless, Verify}, {"correct", s.Correct, Correct}, {"verify", s.Verify, Verify}} {
			if call.id == "" || call.as == "undo" && call.id == None {
				continue
			}
			called := p.r.named[call.id]
			switch {
			case called == nil:
				p.add(s.Line, "step %s: %s=%s: there is no block with that id", s.ID, call.as, call.id)
			case called.Kind != call.kind:
				p.add(s.Line, "step %s: %s=%s: that block is a .%s, and must be a .%s", s.ID, call.as, call.id, called.Kind, call.kind)
			default:
				calledBy[call.id] = s.ID
			}
		}
	}
	if len(p.r.Steps) == 0 && len(p.found) == 0 {
		p.add(1, "there is no step: a fenced code block with {#id .kind} behind its language")
	}
	p.r.Steps = slices.DeleteFunc(p.r.Steps, func(s *Step) bool {
		by := calledBy[s.ID]
		if by == "" && (s.Kind == Undo || s.Kind == Correct) {
			p.add(s.Line, "nothing names the block %s; an action does, by %s=%s", s.ID, s.Kind, s.ID)
		}
		return by != "" || s.Kind == Undo || s.Kind == Correct
	})
}

func (p *parser) attributes(s *Step) {
	bad := func(format string, args ...any) { p.add(s.Line, "step "+s.ID+": "+format, args...) }
	if !slices.Contains(languages[s.Kind], s.Language) {
		bad("the language %q can't be a .%s; want %s", s.Language, s.Kind, strings.Join(languages[s.Kind], ", "))
	}
	only := func(given bool, name string, allowed bool, where string) {
		if given && !allowed {
			bad("%s is for %s", name, where)
		}
	}
	repeats := s.Kind == Wait || s.Kind.changes() || s.Kind == Check || s.Kind == Verify
	only(s.Retries > 0, "retries", repeats && s.Kind != Wait, "an .action, .undo, .correct, .check or .verify; a .wait polls by itself")
	only(s.Idempotent, "idempotent", s.Kind.changes(), "an .action, .undo or .correct; the others change nothing")
	only(s.Verify != "", "verify", s.Kind.changes(), "an .action, .undo or .correct")
	only(s.Unless != "", "unless", s.Kind.changes(), "an .action, .undo or .correct")
	only(s.Undo != "", "undo", s.Kind == Action, "an .action")
	only(s.Irreversible, "irreversible", s.Kind == Action, "an .action")
	only(s.Correct != "", "correct", s.Irreversible, "an .action with irreversible=true")
	only(s.On != "", "on", s.Language == "sql", "sql")
	only(s.Expect != "", "expect", s.Language == "sql" && !s.Kind.changes(), "sql in a .check, .verify or .wait")
	only(s.Above != nil || s.Below != nil, "above or below", s.Language == "promql", "promql")
	only(s.Status != 0 || s.TokenEnv != "" || s.TokenFile != "", "status, token_env or token_file", s.Language == "http", "http")
	only(s.For != 0, "for", s.Kind == Wait && s.Language == "text", "a .wait in text")
	only(s.MaxTTL != 0, "max_ttl", s.Language == "dns", "dns")
	only(s.Server != "", "server", s.Language == "dns", "dns")
	only(s.Role != "" || s.TwoPeople, "role or two_people", s.Kind == Approve, "an .approve")
	if s.Kind == Action {
		switch {
		case s.Irreversible && s.Undo != "":
			bad("an irreversible action can't have an undo")
		case s.Irreversible && (s.Correct == "" || s.Warn == ""):
			bad("an irreversible action needs correct=ID, a block that runs if a later step fails, and warn=\"...\"")
		case !s.Irreversible && s.Undo == "":
			bad("no undo; write undo=ID, undo=none if nothing needs to be undone, or irreversible=true")
		}
	}
	switch {
	case s.Language == "sql" && s.On == "":
		bad("no connection; write on=legacy, target, state or one of the front matter's connections")
	case s.On != "" && !slices.Contains(ofMigrations, s.On) && p.r.Connections[s.On] == (Connection{}):
		bad("on=%s: there is no such connection; there are legacy, target, state and those of the front matter", s.On)
	case s.Language == "promql" && (s.Above == nil) == (s.Below == nil):
		bad("want either above=NUMBER or below=NUMBER")
	case s.Language == "dns" && s.Kind != Wait && s.MaxTTL == 0:
		bad("want max_ttl, such as max_ttl=60s")
	case s.Kind == Wait && s.Language == "text" && s.For == 0:
		bad("want for, such as for=5m")
	case s.TokenEnv != "" && !nameOfEnv.MatchString(s.TokenEnv):
		bad("token_env: %q is no variable's name; a runbook must not contain a token", s.TokenEnv)
	}
	if s.Expect != "" {
		if _, err := expected(s.Expect); err != nil {
			bad("expect: %v", err)
		}
	}
	s.defaults()
}

func (s *Step) defaults() {
	if s.Pause == 0 {
		s.Pause = phases.Duration(defaultStepPause)
	}
	if s.Timeout != 0 {
		return
	}
	switch {
	case s.Kind.changes():
		s.Timeout = phases.Duration(actionTimeout)
	case s.Kind == Approve:
		s.Timeout = phases.Duration(approvalTimeout)
	case s.Kind == Wait:
		s.Timeout = phases.Duration(max(waitTimeout, 2*time.Duration(s.For)))
	default:
		s.Timeout = phases.Duration(defaultTimeout)
	}
}

// body checks the text of a block, as far as that needs no server.
func (p *parser) body(s *Step) {
	bad := func(line int, format string, args ...any) {
		p.add(line, "step "+s.ID+": "+format, args...)
	}
	if strings.TrimSpace(s.Body) == "" {
		bad(s.Line, "it is empty")
		return
	}
	switch s.Language {
	case "sh", "bash":
		if line, err := shellSyntax(s); err != nil {
			bad(s.Line+line, "%v", err)
		}
	case "migrator":
		for i, line := range strings.Split(s.Body, "\n") {
			if words, err := shellWords(line); err != nil {
				bad(s.Line+1+i, "%v", err)
			} else if len(words) > 0 && words[0] != "migrator" {
				bad(s.Line+1+i, "want commands of migrator here, not %s", words[0])
			}
		}
	case "http":
		r, err := request(s.Body)
		if err != nil {
			bad(s.Line+1, "%v", err)
		} else if (s.Kind == Check || s.Kind == Verify || s.Kind == Wait) && r.method != "GET" && r.method != "HEAD" {
			bad(s.Line+1, "%s may change something; a .%s is a GET or HEAD", r.method, s.Kind)
		}
	case "dns":
		for i, host := range strings.Fields(s.Body) {
			if strings.ContainsAny(host, "/:@") {
				bad(s.Line+1+i, "%q is no host's name", host)
			}
		}
	}
}

// asked is the HTTP request of a block.
type asked struct {
	method, url string
	headers     [][2]string
	body        string
}

// request parses a block: "METHOD URL", headers, a blank line and the body.
func request(text string) (asked, error) {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	words := strings.Fields(lines[0])
	if len(words) != 2 || strings.ToUpper(words[0]) != words[0] {
		return asked{}, errorf("want METHOD URL on the first line, such as GET http://localhost:8080/healthz")
	}
	u, err := url.Parse(words[1])
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return asked{}, errorf("want http://... or https://... behind %s", words[0])
	}
	if u.User != nil {
		return asked{}, errorf("the URL has a user; put a token into a file or a variable, and name it as token_file or token_env")
	}
	r := asked{method: words[0], url: words[1], body: body}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.EqualFold(name, "authorization") {
			return asked{}, errorf("header %q: want Name: value; write credentials as token_file or token_env", name)
		}
		r.headers = append(r.headers, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return r, nil
}

// expected parses "a=b,c=d".
func expected(text string) (map[string]string, error) {
	want := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		column, value, ok := strings.Cut(pair, "=")
		if !ok || column == "" {
			return nil, errorf("%q: want column=text,column=text", text)
		}
		want[strings.TrimSpace(column)] = strings.TrimSpace(value)
	}
	return want, nil
}
