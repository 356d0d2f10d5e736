package redis

import (
	"crypto/sha1" //nolint:gosec // by which Redis names scripts
	_ "embed"     // the scripts
	"encoding/hex"
)

//go:embed scripts/apply.lua
var applySource string

//go:embed scripts/hash.lua
var hashSource string

//go:embed scripts/json.lua
var jsonSource string

//go:embed scripts/look.lua
var lookSource string

// script is a Lua script and its SHA-1, by which a server that has loaded it knows it.
type script struct{ source, sha string }

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // a name, not a proof
	return &script{source, hex.EncodeToString(sum[:])}
}

// The scripts: one for each format that applies a write, and one that reads a key.
var (
	applyHash  = newScript(hashSource + applySource)
	applyJSON  = newScript(jsonSource + applySource)
	readScript = newScript(lookSource)
)

//go:embed scripts/rehearse.lua
var rehearseSource string

var probeScript = newScript(rehearseSource)
