package testenv

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// program is a server program that has run successfully.
type program struct {
	path    string
	version string // what --version prints
	libs    string // LD_LIBRARY_PATH, for packages unpacked without root
}

// env returns the complete environment of a server: none of our variables (PGPORT, LC_ALL …)
// may change its behaviour.
func (p program) env() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/", "LC_ALL=C", "TZ=UTC"}
	if p.libs != "" {
		env = append(env, "LD_LIBRARY_PATH="+p.libs)
	}
	return env
}

// MissingError is a server program that is not on this machine.
type MissingError struct {
	What     string   // "PostgreSQL", "Redis", "Prometheus" or "PgBouncer"
	Searched []string // the directories; those with an unusable program, with the reason
	env      string
}

func (e *MissingError) Error() string {
	if e.env == "" {
		return fmt.Sprintf("%s was not found on this machine; searched %s\nTry: make deps\n or: put the program on PATH",
			e.What, strings.Join(e.Searched, ", "))
	}
	brew, example := "brew install postgresql@17 redis", "postgres://user:password@host/db"
	if e.env == EnvRedisURL {
		example = "redis://host:6379"
	}
	install := "apt-get install postgresql redis-server"
	if runtime.GOOS == "darwin" {
		install = brew
	}
	return fmt.Sprintf("%s was not found on this machine; searched %s\n"+
		"Try: make deps\n or: %s\n or: export %s=%s (tests only; those that kill their server need one here)",
		e.What, strings.Join(e.Searched, ", "), install, e.env, example)
}

// cacheDir is where scripts/deps.sh unpacks packages and where data directories are cached.
// Root's is not in its home: PostgreSQL runs as another account, which can't enter that.
var cacheDir = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(envCache); dir != "" {
		return dir, nil
	}
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		return "/var/cache/migrator", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "migrator"), nil
})

// unpacked is a path below a directory in which scripts/deps.sh unpacked packages.
func unpacked(packages, path string) string {
	dir, err := cacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, packages, path)
}

// findPostgres finds a directory with initdb and postgres that acct can run.
func findPostgres(ctx context.Context, acct account) (initdb, postgres program, err error) {
	missing := &MissingError{What: "PostgreSQL (initdb and postgres)", env: EnvPostgresURL}
	for _, dir := range candidates(missing, "initdb",
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/opt/homebrew/bin", "/usr/local/opt/postgresql*/bin",
		unpacked("deb", "usr/lib/postgresql/*/bin")) {
		initdb, err = probe(ctx, filepath.Join(dir, "initdb"), acct)
		if err == nil {
			postgres, err = probe(ctx, filepath.Join(dir, "postgres"), acct)
		}
		if err == nil {
			return initdb, postgres, nil
		}
		missing.note(dir, err)
	}
	return program{}, program{}, missing
}

func findRedis(ctx context.Context) (program, error) {
	missing := &MissingError{What: "Redis (redis-server)", env: EnvRedisURL}
	for _, dir := range candidates(missing, "redis-server",
		"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/homebrew/opt/redis/bin", "/usr/local/opt/redis/bin",
		unpacked("deb", "usr/bin")) {
		p, err := probe(ctx, filepath.Join(dir, "redis-server"), account{})
		if err == nil {
			return p, nil
		}
		missing.note(dir, err)
	}
	return program{}, missing
}

// note replaces the entry of a directory by the reason why its program is unusable.
func (e *MissingError) note(dir string, err error) {
	e.Searched = append(e.Searched, fmt.Sprintf("%s (%v)", dir, err))
}

// candidates lists the directories with the program: of PATH, then of the usual places, the
// newest version first. It records every place in missing.
func candidates(missing *MissingError, program string, places ...string) (dirs []string) {
	path := os.Getenv(EnvServerPath)
	if path == "" {
		path = os.Getenv("PATH")
		missing.Searched = append(missing.Searched, "PATH")
	} else {
		places = nil
		missing.Searched = append(missing.Searched, EnvServerPath+"="+path)
	}
	missing.Searched = append(missing.Searched, places...)
	add := func(file string) {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			return
		}
		// A link on PATH leads to the directory with the other programs too; but Debian's
		// redis-server is a link to redis-check-rdb, beside it.
		if real, err := filepath.EvalSymlinks(file); err == nil && filepath.Base(real) == program {
			file = real
		}
		if dir := filepath.Dir(file); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range filepath.SplitList(path) {
		add(filepath.Join(dir, program))
	}
	for _, place := range places {
		if place == "" {
			continue
		}
		found, _ := filepath.Glob(filepath.Join(place, program))
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
		for _, file := range found {
			add(file)
		}
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// number returns the major version in a path such as /usr/lib/postgresql/17/bin.
func number(path string) int {
	n, _ := strconv.Atoi(digits.FindString(path))
	return n
}

// probe runs the program with --version as acct: an existing file may be inaccessible to acct,
// or lack a library.
func probe(ctx context.Context, path string, acct account) (program, error) {
	p := program{path: path, libs: unpackedLibraries(path)}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", p.env(), asAccount(acct)
	out, err := cmd.CombinedOutput()
	p.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		who := ""
		if acct.switched {
			who = " as user " + acct.name
		}
		return program{}, fmt.Errorf("%s does not run%s: %w %s", filepath.Base(path), who, err, p.version)
	}
	return p, nil
}

// unpackedLibraries returns the library path of a server that scripts/deps.sh unpacked.
func unpackedLibraries(path string) string {
	cache := unpacked("", "")
	if real, err := filepath.EvalSymlinks(cache); err == nil {
		cache = real
	}
	below, found := strings.CutPrefix(path, cache+"/")
	if cache == "" || !found {
		return ""
	}
	packages, _, _ := strings.Cut(below, "/")
	root := filepath.Join(cache, packages)
	var dirs []string
	for _, place := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib", "lib"} {
		found, _ := filepath.Glob(filepath.Join(root, place))
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":")
}
