package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

//go:generate go test -count=1 -run TestThirdPartyNotices . -update

// noticesFile goes with each copy of the built program.
const noticesFile = "THIRD_PARTY_NOTICES.txt"

// noticesHead precedes the list. Licences such as MPL-2.0 require that the reader learns
// where the source code is.
const noticesHead = `Third-party software in migrator
================================

The program migrator links the Go standard library and the modules below. None is
modified: the source code of each is what "go mod download MODULE@VERSION" fetches.
Those marked npm are in the page that the program serves, and are what "npm pack
PACKAGE@VERSION" fetches.
The licences and notices follow the list, each text once.

"go generate ./cmd/migrator" writes this file from what a build for Linux links.

`

// linked is a module in the program, or the standard library.
type linked struct {
	path, version string
	dir           string
	packages      []string // folders of the packages that are linked; none for the standard library
}

func (m linked) String() string { return strings.TrimSpace(m.path + " " + m.version) }

// legal matches the files whose text a copy of the program must carry.
var legal = regexp.MustCompile(`(?i)^(un)?licen[cs]e|^copying|^copyright|^notice|^patents`)

// permitted are the licences that the program may link. Another one is a decision: read
// what it requires of those who pass on the program, then add it.
var permitted = []string{
	"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MPL-2.0", "Unlicense",
	"GooglePatentsFile", // a grant beside Go's licence
}

// TestThirdPartyNotices: the notices have every module that the program links, with its
// version, licences and their texts; go generate updates them.
func TestThirdPartyNotices(t *testing.T) {
	t.Parallel()
	modules, err := linkedModules()
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 20 {
		t.Fatalf("only %d modules: go list is not read correctly", len(modules))
	}
	want, err := notices(append(modules, embedded()...))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(clitest.Root(), noticesFile)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from what the program links: run go generate ./cmd/migrator\nfirst difference: %s", noticesFile, firstDifference(string(got), want))
	}
}

// embedded are the packages of others whose files the program carries.
func embedded() []linked {
	dir := filepath.Join(clitest.Root(), "internal", "page", "third_party", "uPlot")
	return []linked{{path: "uplot", version: "1.6.32 (npm)", dir: dir, packages: []string{dir}}}
}

// linkedModules lists what a build for Linux links, wherever the test runs.
func linkedModules() ([]linked, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Root,Module", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd, err)
	}
	var found []linked
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, Root string
			Standard  bool
			Module    *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		// The standard library has no version here: the toolchain that builds the program has one.
		one := linked{path: "The Go standard library", dir: p.Root}
		switch {
		case p.Standard:
		case p.Module == nil:
			return nil, fmt.Errorf("%s is in no module", p.Dir)
		case p.Module.Main:
			continue
		default:
			one = linked{path: p.Module.Path, version: p.Module.Version, dir: p.Module.Dir}
		}
		at := slices.IndexFunc(found, func(m linked) bool { return m.path == one.path })
		if at < 0 {
			at = len(found)
			found = append(found, one)
		}
		// One licence covers the standard library. A second one beside crypto/internal/boring is
		// for an object file that only GOEXPERIMENT=boringcrypto links.
		if !p.Standard {
			found[at].packages = append(found[at].packages, p.Dir)
		}
	}
	slices.SortFunc(found, func(a, b linked) int { return cmp.Compare(a.path, b.path) })
	return found, nil
}

// legalFiles lists the legal texts in the folders from each linked package up to the
// module's: a package with code of another author has a licence of its own.
func (m linked) legalFiles() ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, dir := range append(slices.Clone(m.packages), m.dir) {
		for ; !seen[dir] && strings.HasPrefix(dir, m.dir); dir = filepath.Dir(dir) {
			seen[dir] = true
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if !e.IsDir() && legal.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
					files = append(files, filepath.Join(dir, e.Name()))
				}
			}
		}
	}
	slices.Sort(files)
	return files, nil
}

// notices returns the whole file.
func notices(modules []linked) (string, error) {
	var list, texts strings.Builder
	carriers := map[string][]string{} // by text: what it is from
	var order []string
	for _, m := range modules {
		files, err := m.legalFiles()
		if err != nil {
			return "", err
		}
		var licences []string
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text := strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n"))
			for _, match := range licensecheck.Scan(data).Match {
				if !match.IsURL {
					licences = append(licences, match.ID)
				}
			}
			if carriers[text] == nil {
				order = append(order, text)
			}
			name, err := filepath.Rel(m.dir, file)
			if err != nil {
				return "", err
			}
			carriers[text] = append(carriers[text], m.String()+", "+filepath.ToSlash(name))
		}
		slices.Sort(licences)
		licences = slices.Compact(licences)
		if len(licences) == 0 {
			return "", fmt.Errorf("%s has no licence that is recognized", m)
		}
		for _, l := range licences {
			if !slices.Contains(permitted, l) {
				return "", fmt.Errorf("%s is under %s, which is not permitted", m, l)
			}
		}
		fmt.Fprintf(&list, "%s: %s\n", m, strings.Join(licences, ", "))
	}
	for _, text := range order {
		fmt.Fprintf(&texts, "\n%s\n%s\n\n%s\n", strings.Repeat("-", 80), strings.Join(carriers[text], "\n"), text)
	}
	return noticesHead + list.String() + texts.String(), nil
}

func TestNoticesRefuseAnUnknownLicence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := linked{path: "example.com/m", version: "v1.0.0", dir: dir, packages: []string{dir}}
	for text, want := range map[string]string{
		"All rights reserved.": "no licence that is recognized",
		"Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.\n\n" +
			"THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.\n": "ISC, which is not permitted",
	} {
		if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := notices([]linked{m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
