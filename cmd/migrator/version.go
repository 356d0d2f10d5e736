package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// version is set by the linker for releases; else the build information is used.
var version = ""

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			return c.show(v, func() {
				c.printf("migrator %s (%s%s, %s)\n", v.Version, commitText(v.Commit, v.Changed), v.Go, v.OS)
			})
		},
	}
}

// versionDocument is the document of the command version.
type versionDocument struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Changed bool   `json:"changed,omitempty"` // the sources had changes that are not of the commit
	Go      string `json:"go"`
	OS      string `json:"os"`
}

func thisVersion() versionDocument {
	v := versionDocument{Version: version, Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Changed = s.Value == "true"
		}
	}
	return v
}

func commitText(commit string, changed bool) string {
	switch {
	case commit == "":
		return ""
	case changed:
		return "commit " + humanize.Short(commit) + " with changes, "
	}
	return "commit " + humanize.Short(commit) + ", "
}
