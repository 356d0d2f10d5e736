// Package badinput makes inputs that migrator must refuse: files, settings, variables, URLs,
// command lines, alerts. The same seed makes the same inputs.
//
// What is certainly bad is marked so; a random change may leave an input good, and then says
// nothing about the exit code.
package badinput

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Secret stands for a password in the inputs. No output may have it.
const Secret = "Hu5hPassw0rd"

// Case is one bad input: a command line with its variables and files, or the body of a request.
type Case struct {
	Kind string // what is bad: one of the kinds
	Name string // how, for messages
	// Args are the command line. Files are named as Path writes them.
	Args  []string
	Env   map[string]string
	Files []File
	// Where, in the output, names what is bad: a file, a flag, a variable. "": the output need not.
	Where string
	// Body is the body of a POST of alerts, with Token; Args are empty then.
	Body, Token string
	// Sure is false for random changes, which may leave the input good.
	Sure bool
}

// File is a file of a case, or what stands in its place.
type File struct {
	Name string
	Text string
	Mode fs.FileMode // 0: 0600; a type makes a directory, a pipe, a socket or a link to Text
}

// Dir stands for the folder of a case's files, in Args, Env and texts of files.
const Dir = "@DIR@"

// Path is the path of a case's file.
func Path(name string) string { return Dir + "/" + name }

// Place writes the case's files into a folder, and returns the case for it.
func (c Case) Place(dir string) (Case, error) {
	put := func(s string) string { return strings.ReplaceAll(s, Dir, dir) }
	for _, f := range c.Files {
		path := filepath.Join(dir, f.Name)
		if err := f.place(path, put(f.Text)); err != nil {
			return c, err
		}
	}
	args, env := make([]string, len(c.Args)), map[string]string{}
	for i, a := range c.Args {
		args[i] = put(a)
	}
	for name, value := range c.Env {
		env[name] = put(value)
	}
	c.Args, c.Env, c.Where = args, env, put(c.Where)
	return c, nil
}

func (f File) place(path, text string) error {
	switch f.Mode.Type() {
	case fs.ModeDir:
		return os.Mkdir(path, 0o700)
	case fs.ModeSymlink:
		return os.Symlink(text, path)
	case fs.ModeNamedPipe, fs.ModeSocket:
		return special(path, f.Mode)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if f.Mode != 0 {
		return os.Chmod(path, f.Mode)
	}
	return nil
}

// Command is a command of the program, as its tree has it.
type Command struct {
	Words []string // without the program's name
	Flags []Flag
	Runs  bool // false: a group of commands
}

// Flag is a flag of a command, by the name of its type.
type Flag struct{ Name, Type string }

// World is what the inputs are made from.
type World struct {
	Commands []Command
	// Configs are good migration files, and Runbooks good runbooks, by name.
	Configs, Runbooks map[string]string
	// Drill is a good signed drill, and Key the public key that fits.
	Drill, Key string
	// State is the URL of a state database with a migration; Migration is the file of that one.
	State, Migration string
	Token            string // of the endpoint for alerts
}

// Generator makes cases. It goes round the kinds, so that few of them have every kind.
type Generator struct {
	*rand.Rand
	w     World
	kinds []kind
	n     int
}

type kind struct {
	name string
	make func(g *Generator) Case
}

// New returns a generator.
func New(seed uint64, w World) *Generator {
	g := &Generator{Rand: rand.New(rand.NewPCG(seed, 15)), w: w}
	g.kinds = []kind{
		{"key", (*Generator).badKey},
		{"value", (*Generator).badValue},
		{"bytes", (*Generator).badBytes},
		{"shape", (*Generator).badShape},
		{"settings", (*Generator).badSettings},
		{"variable", (*Generator).badVariable},
		{"url", (*Generator).badURL},
		{"flag", (*Generator).badFlag},
		{"argument", (*Generator).badArgument},
		{"runbook", (*Generator).badRunbook},
		{"file", (*Generator).badFile},
		{"drill", (*Generator).badDrill},
		{"alert", (*Generator).badAlert},
	}
	return g
}

// Next makes the next case.
func (g *Generator) Next() Case {
	k := g.kinds[g.n%len(g.kinds)]
	g.n++
	c := k.make(g)
	c.Kind = k.name
	if c.Env == nil {
		c.Env = map[string]string{}
	}
	if _, given := c.Env["MIGRATOR_STATE_URL"]; !given && c.Body == "" {
		c.Env["MIGRATOR_STATE_URL"] = g.w.State
	}
	if c.Body == "" && g.IntN(4) == 0 {
		if k.name != "settings" && k.name != "variable" { // its output would not be asked for
			c.Args = append([]string{"-o", "json"}, c.Args...)
		}
	}
	return c
}

func pick[T any](g *Generator, all ...T) T { return all[g.IntN(len(all))] }

// one is the name and the text of one of the files.
func one(g *Generator, all map[string]string) (name, text string) {
	names := sorted(all)
	name = names[g.IntN(len(names))]
	return name, all[name]
}

// odd is a text that no one should write.
func (g *Generator) odd() string {
	return pick(g,
		"", " ", "\t", "\n", "\r\n", "\x01", "\x1b[2J\x1b]0;x\a", "\u202egpj.exe", "\ufeff", "\u2028", "\u0085", "\xff\xfe", "\xc3(", "\xed\xa0\x80",
		"'", `"`, "`id`", "$(id)", "; DROP TABLE x; --", "../../etc/passwd", "%s%d%n", "%", "${", "${x", "$", "{{", "}", "\\", "\\x00", "NULL", "null", "~",
		"-1", "0", "1e309", "NaN", "-Inf", "99999999999999999999", "0x10", "010", "1_0", "٣", "½", "true", "yes", "1d", "-1h", "1h-", "106752d", "9223372036854775807",
		strings.Repeat("x", 300), strings.Repeat("é", 70), strings.Repeat("y", 64<<10), strings.Repeat("[", 2000), strings.Repeat("\n", 500), "a\nError: b",
		fmt.Sprint(g.Int64()))
}
