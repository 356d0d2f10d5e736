package migration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"reflect"
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

// TestHashesOfFilesStay: state databases contain the hashes of migration files, with the
// telemetry and runs that are bound to them, so a change of the code must not change a
// hash. The expected hashes are therefore literals; so are the files' JSON, which the
// state database keeps, and the output of config show.
func TestHashesOfFilesStay(t *testing.T) {
	t.Parallel()
	text := func(file string) string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, c := range map[string]struct{ text, hash, rehearsal, public, shown string }{
		"products": {
			text:      text("testdata/products.yaml"),
			hash:      "b0916def7f721df76205ef1968172c981d30d87a23e47cfdf9053928e7e77a63",
			rehearsal: "f6568c97b3e79377f749bfb291055f9f90dc8454e45cbf627cbf997a6e2a305f",
			public:    "3717b4e6d5bf9a49cec38adbb1c51016a5253e96d3ecb19628e8189b57644336",
			shown:     "5bf4fd30ba4f709e7cf1ae898a03b010d6af7dc62df9d87a1bcc8c45c378594d",
		},
		"least": {
			text:      least,
			hash:      "f2e772568595c568571bb16ce77781c6c669778b7a8b633ba1c0a2d37a4f98b5",
			rehearsal: "0e70ed327bbec5dae1c6e71010607fc7f487fc36e629648e6df80ab8b99d47bf",
			public:    "e1747c934490cddb8567f66cb33695370747c8b4d54d5e10239e9521a6785ef2",
			shown:     "ab9e815992f31865249905acee2f6b2eb5119359d09cbc7ea375bb3ce8b56c2b",
		},
		"redis": {
			text: `name: move
legacy: {store: postgres, url: "postgres://h/db", table: '"Order Items"', key: [tenant, id], version_column: rev}
target: {store: redis, url: "rediss://u:p@h:1/2", key: "p{{{tenant}}}:{id}", format: json, expires: until, version_field: __version}
fields: [{name: tenant}, {name: id, target: number}, {name: until}]
compare: [{path: /until, tolerance: 5}]
`,
			hash:      "e99e6a13fc86f2e8bbb7c993b8829d4e17ed00a903195b2e98feceef29436ded",
			rehearsal: "33e0afb9cbf4fde43f59fbf70cbc46d844544ac398542da576ecfa7add72f077",
			public:    "82c0b18ab80cbe21800c92ceed23a961f0886901c7919c633e181d298bd46d02",
			shown:     "e80aed0ce4b729e94985c9542d4d55b5db2848e8d3cb1c1a40a02f4887738b38",
		},
		"postgres": {
			text: `name: move
environment: staging
legacy: {store: postgres, url: "host=h user=u password=p", table: shop.items}
target: {store: postgres, url: "postgres://h/new", table: new.items}
exclude: [b, a]
`,
			hash:      "0a8cede0f587b563c95ca0aa55dfa363edad80b59bdfe79cc222b4f232da4971",
			rehearsal: "bb816f27e2328ff53d3df5825a5560aaf0eff8d1564316e14473278dd702903c",
			public:    "ad69ac10fa9a547f3b387b03e88cffc7fbd4c6f27a15f063a0f823f61a76b9e2",
			shown:     "47e29a09583a666d4d0eaca94d7a5bdc352d598e46f7d0f0e3e4b572b5a3bce4",
		},
		"empty texts": {
			text: `name: move
legacy: {store: postgres, url: "postgres://h/db", table: items, key: [], version_column: ""}
target: {store: redis, url: "redis://h", key: "i:{id}", format: hash, expires: "", version_field: ""}
`,
			hash:      "5360b3b5574a0a4203a27f8620251ccf9cf4c0159a15683e9780661fccfc03ec",
			rehearsal: "a3190941d2b9c5d92b6f87af6023f4d53b6e3a3e81faeb434c817fb7ed4fd18b",
			public:    "f3e7f6b22d0d5ae55b08982d911e2c53ef6ede73b332461afb3ca0084ebd9c72",
			shown:     "9fe12b614bf3a58f95fff27da6078102586ee5b32f6efab04bf228ace2e18e06",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := parse(t, c.text, "LEGACY_URL", "postgres://app:geheim@db:5432/shop?sslmode=require")
			public, err := m.Public()
			if err != nil {
				t.Fatal(err)
			}
			shown, err := migration.Show(m)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := openstore.Stored(public)
			if err != nil || !reflect.DeepEqual(stored.Target.Part, m.Target.Part) || stored.Hash() != m.Hash() {
				t.Errorf("%v: stored and read are %+v and %+v", err, stored.Legacy, stored.Target)
			}
			for what, is := range map[string][2]string{
				"Hash": {m.Hash(), c.hash}, "Rehearsal": {m.DrillHash(), c.rehearsal},
				"Public": {digest(public), c.public}, "Show": {digest(here(shown)), c.shown},
			} {
				if is[0] != is[1] {
					t.Errorf("%s is %q, was %q", what, is[0], is[1])
				}
			}
			if t.Failed() {
				t.Logf("%s\n%s", public, shown)
			}
		})
	}
}

// here removes the test's directory.
func here(text []byte) []byte {
	dir, _ := os.Getwd()
	return bytes.ReplaceAll(text, []byte(dir), nil)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
