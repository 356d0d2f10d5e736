package runbook_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/runbook"
)

func TestParse(t *testing.T) {
	t.Parallel()
	text := "---\nname: drain\ntitle: Drain the pools\napplies_to:\n  migrations: [products]\n  phases: [cutover, grace]\n  environments: [staging]\n" +
		"connections:\n  pool: {env: POOL_URL, pooler: true}\nvalues: {channel: shop-oncall}\n---\n\n# Drain ${migration}\n\nCall ${channel}.\n\n" +
		"```sh\nno step: $HOME\n```\n\n## Pause *it*\n\n" +
		"- in a list\n\n  ```sql {#pause .action on=pool timeout=1m30s undo=resume warn=\"clients \\\"wait\\\"\"}\n  PAUSE shop;\n  ```\n\n" +
		"~~~sql {#resume .undo on=pool retries=3}\nRESUME shop;\n~~~\n\n" +
		"```sh {#greet .check}\necho ${migration} $${HOME} $HOME $$\n```\n"
	r, err := runbook.Parse("drain.md", []byte(text), map[string]string{"migration": "products"})
	must(t, err)
	if len(r.Steps) != 2 || r.Steps[0].ID != "pause" || r.Steps[1].ID != "greet" || len(r.Blocks()) != 3 {
		t.Fatalf("%+v", r.Steps)
	}
	p := r.Steps[0]
	if p.Kind != runbook.Action || p.Language != "sql" || p.Title != "Pause *it*" || p.Body != "PAUSE shop;" || p.On != "pool" ||
		time.Duration(p.Timeout) != 90*time.Second || p.Undo != "resume" || p.Warn != `clients "wait"` || p.Line != 25 {
		t.Errorf("%+v", p)
	}
	if got, want := r.Steps[1].Body, "echo products ${HOME} $HOME $$"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.Contains(r.Source, "Call shop-oncall.") {
		t.Errorf("%s", r.Source)
	}
	again, err := runbook.Reread("again", r.Source)
	must(t, err)
	if diff := cmp.Diff(again.Steps, r.Steps); diff != "" || again.Source != r.Source {
		t.Errorf("the stored source parses differently: %s", diff)
	}
}

func TestParseErrorsCarryLines(t *testing.T) {
	t.Parallel()
	// Lines count from the front matter; the block's fence is on line 8.
	for text, want := range map[string]string{
		"# no front matter":                                                                "test.md:1: a runbook begins with its front matter",
		"---\nname: x\n":                                                                   "test.md:1: the front matter has no end",
		"---\nname: x\ntitel: y\n---\n":                                                    "test.md:3: front matter: unknown key \"titel\" (the schema of runbooks lists them)",
		"---\nname: x\ntitle: [y\n---\n":                                                   "test.md:",
		"---\nname: X y\ntitle: y\n---\n":                                                  `test.md:1: name: "X y": want lower-case letters`,
		"---\nname: x\n---\n":                                                              "the front matter has no title",
		"---\nname: x\ntitle: y\n---\n\nprose\n":                                           "there is no step",
		"---\nname: x\ntitle: y\nconnections: {legacy: {env: A}}\n---\n":                   "the migration has one of that name",
		"---\nname: x\ntitle: y\nconnections: {a: {}}\n---\n":                              "want env, the variable that holds the URL, or url_file",
		"---\nname: x\ntitle: y\nconnections: {a: {env: 'postgres://x'}}\n---\n":           "a runbook must not contain a URL",
		"---\nname: x\ntitle: y\nvalues: {migration: z}\n---\n":                            `the front matter's value "migration" is the migration's own`,
		front + "```sh {#a .check\ntrue\n```":                                              "test.md:8: the attributes begin with { and have no }",
		front + "```sh {.check}\ntrue\n```":                                                "test.md:8: a step needs an id",
		front + "```sh {#a}\ntrue\n```":                                                    "step a has no kind",
		front + "```sh {#a .chek}\ntrue\n```":                                              ".chek is no kind; the kinds are .check, .action",
		front + "```sh {#A .check}\ntrue\n```":                                             `"#A" is no id`,
		front + "```sh {#none .check}\ntrue\n```":                                          `"#none" is no id`,
		front + "```sh {#a .check tiemout=1s}\ntrue\n```":                                  `there is no attribute "tiemout"; there are above, below,`,
		front + "```sh {#a .check timeout=soon}\ntrue\n```":                                `timeout: duration "soon"`,
		front + "```sh {#a .check timeout=0s}\ntrue\n```":                                  "want a time above 0",
		front + "```sh {#a .check timeout=1s timeout=2s}\ntrue\n```":                       "timeout is given twice",
		front + "```sh {#a .check warn=\"x}\ntrue\n```":                                    "is not closed",
		front + "```sh {#a .check}\ntrue\n```\n```sh {#a .check}\ntrue\n```":               "test.md:11: the id a is used twice, first on line 8",
		front + "```ruby {#a .check}\ntrue\n```":                                           `the language "ruby" can't be a .check; want sh, bash`,
		front + "```sh {#a .check}\nif true; then\n```":                                    "test.md:9: step a: ",
		front + "```sh {#a .check}\ntrue\ncase\n```":                                       "test.md:10: step a: ",
		front + "```sh {#a .check}\n\n```":                                                 "step a: it is empty",
		front + "```sh {#a .action}\ntrue\n```":                                            "step a: no undo; write",
		front + "```sh {#a .action undo=b}\ntrue\n```":                                     "undo=b: there is no block with that id",
		front + "```sh {#a .action undo=b}\ntrue\n```\n```sh {#b .check}\n:\n```":          "that block is a .check, and must be a .undo",
		front + "```sh {#b .undo}\ntrue\n```":                                              "nothing names the block b",
		front + "```sh {#a .action irreversible=true}\ntrue\n```":                          "an irreversible action needs correct=ID",
		front + "```sql {#a .check}\nSELECT true\n```":                                     "no connection; write on=",
		front + "```sql {#a .check on=elsewhere}\nSELECT true\n```":                        "there is no such connection",
		front + "```sql {#a .check on=state expect=x}\nSELECT true\n```":                   "want column=text",
		front + "```promql {#a .wait}\nup\n```":                                            "want either above=NUMBER or below=NUMBER",
		front + "```http {#a .check}\nPOST http://localhost/\n```":                         "POST may change something",
		front + "```http {#a .action undo=none}\nPOST http://u:p@localhost/\n```":          "the URL has a user",
		front + "```http {#a .check}\nGET http://localhost/\nAuthorization: Bearer x\n```": "token_file or token_env",
		front + "```dns {#a .check}\nlocalhost\n```":                                       "want max_ttl",
		front + "```text {#a .wait}\nrest\n```":                                            "want for, such as for=5m",
		front + "```sh {#a .approve}\ntrue\n```":                                           `the language "sh" can't be a .approve`,
		front + "```migrator {#a .check}\nls -l\n```":                                      "want commands of migrator here, not ls",
		front + "```migrator {#a .check}\nmigrator status > x\n```":                        "without redirections",
		front + "```migrator {#a .check}\nmigrator status $X\n```":                         "variables are for blocks in sh",
		front + "```sh {#a .check idempotent=true}\ntrue\n```":                             "idempotent is for an .action",
		front + "${nothing}\n":                                                             "test.md:8: there is no value ${nothing}; there are migration, odd;",
		front + "${odd}\n":                                                                 "which is no plain word",
		front + "${migration\n":                                                            "${ without }",
	} {
		found := wrong(t, text)
		if !strings.Contains(found.Error(), want) {
			t.Errorf("%q: %v, want %q", text, found, want)
		}
		var first *migration.Error
		if !errors.As(error(found), &first) || first.File != "test.md" {
			t.Errorf("%q: %+v", text, first)
		}
	}
	if all := wrong(t, front+"```sh {#a .chek}\ntrue\n```\n${x}\n"); len(all) != 2 {
		t.Errorf("not all errors are reported together: %v", all)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		front + threeActions, front + "```sql {#a .check on=state expect=\"a=b\"}\nSELECT\n```", "---\n---\n", front + "> ```sh {#a .check}\n> x\n", front + "~~~~ {#",
		front + "${migration}$${x}${", "---\nname: x\ntitle: y\nvalues: {a: b}\n---\n```http {#a .check}\nGET http://x\n\n\n```",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := runbook.Parse("fuzz.md", []byte(text), map[string]string{"migration": "products"})
		var all migration.Errors
		switch {
		case err == nil:
			again, err := runbook.Reread("again", r.Source)
			if err != nil || len(again.Steps) != len(r.Steps) {
				t.Fatalf("%q: the stored source is refused: %v", text, err)
			}
			if n := r.Next(nil); n.Step != r.Steps[0] || n.Attempt != 1 {
				t.Fatalf("it begins with %+v", n)
			}
		case !errors.As(err, &all) || len(all) == 0:
			t.Fatalf("%v", err)
		default:
			for _, one := range all {
				if one.Line < 1 || one.Line > 1+strings.Count(text, "\n") {
					t.Fatalf("%q: line %d: %s", text, one.Line, one.Message)
				}
			}
		}
	})
}
