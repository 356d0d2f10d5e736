package dual_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/redis"
)

// user is a value of an application.
type user struct {
	id    int
	name  string
	email *string
}

var users = &record.Schema{
	Fields: []record.Field{
		{Name: "email", Target: "mail", Kind: record.Text, Type: "text"},
		{Name: "id", Target: "id", Kind: record.Int, Type: "integer", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text", NotNull: true},
	},
	Key: []int{1},
}

func userKey(id int) record.Key { return record.MakeKey(strconv.Itoa(id)) }

var errUnwelcome = errors.New("unwelcome")

func userColumns() []dual.Column[user] {
	return []dual.Column[user]{
		{
			Name: "id",
			Get:  func(u *user) record.Value { return record.TextValue(strconv.Itoa(u.id)) },
			Set: func(u *user, v record.Value) (err error) {
				u.id, err = strconv.Atoi(v.Text)
				return err
			},
		},
		{
			Name: "name",
			Get:  func(u *user) record.Value { return record.TextValue(u.name) },
			Set: func(u *user, v record.Value) error {
				if u.name = v.Text; u.name == "nobody" {
					return errUnwelcome
				}
				return nil
			},
		},
		{
			Name: "email",
			Get: func(u *user) record.Value {
				if u.email == nil {
					return record.NullValue
				}
				return record.TextValue(*u.email)
			},
			Set: func(u *user, v record.Value) error {
				if v.State == record.Present {
					u.email = &v.Text
				}
				return nil
			},
		},
	}
}

func userCodec(t *testing.T) dual.Codec[int, user] {
	t.Helper()
	codec, err := dual.NewCodec(users, userKey, userColumns())
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

// bindUsers binds users to a real Redis.
func bindUsers(t *testing.T) (dual.Target[int, user], *goredis.Client) {
	t.Helper()
	url := testenv.RedisURL(t)
	target, err := (&migration.Config{
		Name: "users", Target: migration.Target{Store: "redis", URL: url, Part: &redis.TargetConfig{KeyTemplate: "user:{id}"}},
	}).OpenTarget(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	raw := goredis.NewClient(o)
	t.Cleanup(func() { _ = raw.Close() })
	return dual.Bind[int, user](target, userCodec(t)), raw
}

func versionAt(n uint64) record.Version { return record.MakeVersion(1, 1, n) }

func TestBoundTargetKeepsTheContract(t *testing.T) {
	t.Parallel()
	target, _ := bindUsers(t)
	mail := "ä@example.org"
	ann := user{1, "Ann 🦊", &mail}
	steps := []struct {
		name    string
		change  dual.Change[int, user]
		options func(now time.Time) dual.ApplyOptions
		want    store.Outcome
		found   bool
		version uint64
	}{
		{"made", dual.Change[int, user]{Key: 1, Value: ann, Version: versionAt(5)}, nil, store.Applied, true, 5},
		{"an older one", dual.Change[int, user]{Key: 1, Value: user{1, "old", nil}, Version: versionAt(4)}, nil, store.Older, true, 5},
		{
			"too late",
			dual.Change[int, user]{Key: 1, Value: user{1, "late", nil}, Version: versionAt(6)},
			func(now time.Time) dual.ApplyOptions { return dual.ApplyOptions{NotAfter: now.Add(-time.Second)} }, store.Late, true, 5,
		},
		{
			"on another version",
			dual.Change[int, user]{Key: 1, Value: user{1, "late", nil}, Version: versionAt(6)},
			func(now time.Time) dual.ApplyOptions {
				other := versionAt(1)
				return dual.ApplyOptions{NotAfter: now.Add(time.Minute), IfVersion: &other}
			}, store.Changed, true, 5,
		},
		{"deleted", dual.Change[int, user]{Key: 1, Deleted: true, Version: versionAt(7)}, nil, store.Applied, false, 7},
		{"an old one after it", dual.Change[int, user]{Key: 1, Value: ann, Version: versionAt(6)}, nil, store.Older, false, 7},
		{"created again", dual.Change[int, user]{Key: 1, Value: ann, Version: versionAt(8)}, nil, store.Applied, true, 8},
	}
	for _, s := range steps {
		now, err := target.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o := dual.ApplyOptions{NotAfter: now.Add(time.Minute)}
		if s.options != nil {
			o = s.options(now)
		}
		r, err := target.Apply(t.Context(), s.change, o)
		if err != nil || r.Outcome != s.want {
			t.Fatalf("%s: %+v, %v, want %s", s.name, r, err, s.want)
		}
		got, err := target.Get(t.Context(), 1)
		if err != nil || got.Found != s.found || got.Version != versionAt(s.version) {
			t.Fatalf("after %s: %+v, %v", s.name, got, err)
		}
		if got.Found && (got.Value.name != ann.name || got.Value.email == nil || *got.Value.email != mail) {
			t.Fatalf("after %s: %+v", s.name, got.Value)
		}
	}
	if got, err := target.Get(t.Context(), 2); err != nil || got.Found || !got.Version.IsZero() {
		t.Errorf("a user that never was: %+v, %v", got, err)
	}
}

func TestBatchReturnsResultsInOrder(t *testing.T) {
	t.Parallel()
	codec := userCodec(t)
	encode := codec.Encode
	codec.Encode = func(u user) (record.Record, error) {
		if u.name == "nobody" {
			return nil, errUnwelcome
		}
		return encode(u)
	}
	url := testenv.RedisURL(t)
	opened, err := (&migration.Config{
		Name: "users", Target: migration.Target{Store: "redis", URL: url, Part: &redis.TargetConfig{KeyTemplate: "user:{id}"}},
	}).OpenTarget(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	target := dual.Bind(opened, codec).(dual.BatchTarget[int, user])
	now, err := opened.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var changes []dual.Change[int, user]
	for i := range 20 {
		name := fmt.Sprint("user ", i)
		if i%7 == 3 {
			name = "nobody"
		}
		changes = append(changes, dual.Change[int, user]{Key: i, Value: user{i, name, nil}, Version: versionAt(uint64(100 + i))})
	}
	results, err := target.ApplyAll(t.Context(), changes, dual.ApplyOptions{NotAfter: now.Add(time.Minute)})
	if err != nil || len(results) != len(changes) {
		t.Fatal(len(results), err)
	}
	for i, r := range results {
		refused := i%7 == 3
		if refused != errors.Is(r.Err, errUnwelcome) || !refused && (r.Outcome != store.Applied || r.Version != versionAt(uint64(100+i))) {
			t.Errorf("user %d: %+v", i, r)
		}
	}
	if results, err := target.ApplyAll(t.Context(), changes[3:4], dual.ApplyOptions{}); err != nil || !errors.Is(results[0].Err, errUnwelcome) {
		t.Errorf("none that can be encoded: %+v, %v", results, err)
	}
}

func TestForeignValueIsNotReportedAbsent(t *testing.T) {
	t.Parallel()
	target, raw := bindUsers(t)
	if err := raw.LPush(t.Context(), "user:1", "a list").Err(); err != nil {
		t.Fatal(err)
	}
	if err := raw.HSet(t.Context(), "user:2", "id", 2, "name", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	now, err := target.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refusedUser := dual.Change[int, user]{Key: 3, Value: user{3, "nobody", nil}, Version: versionAt(1)}
	if r, err := target.Apply(t.Context(), refusedUser, dual.ApplyOptions{NotAfter: now.Add(time.Minute)}); err != nil || r.Outcome != store.Applied {
		t.Fatal(r, err)
	}
	for id, want := range map[int]string{1: "but wrong-type", 2: "but unowned", 3: `field "name"`} {
		got, err := target.Get(t.Context(), id)
		if h, _ := dual.HintOf(err); id < 3 && h.Do != hint.ReconcileRepair {
			t.Errorf("user %d: hint %v", id, h)
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || got.Found {
			t.Errorf("user %d: %+v, %v", id, got, err)
		}
	}
}

func TestUnreachableTargetIsAnError(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	opened, err := (&migration.Config{
		Name: "users", Target: migration.Target{Store: "redis", URL: server.URL(), Part: &redis.TargetConfig{KeyTemplate: "user:{id}"}},
	}).OpenTarget(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	target := dual.Bind(opened, userCodec(t))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Get(t.Context(), 1); err == nil {
		t.Error("a read of a dead server succeeds")
	}
	r, err := target.Apply(t.Context(), dual.Change[int, user]{Key: 1, Version: versionAt(1)}, dual.ApplyOptions{})
	if err == nil || r.Outcome != "" {
		t.Errorf("a write to a dead server: %+v, %v", r, err)
	}
}

func TestCodecRequiresExactlyTheSchemaFields(t *testing.T) {
	t.Parallel()
	all := userColumns()
	for _, c := range []struct {
		name    string
		columns []dual.Column[user]
		want    string
	}{
		{"one is missing", all[:2], `the application does not know field "email"`},
		{"one is too many", append(userColumns(), dual.Column[user]{Name: "age"}), `does not move column "age"`},
		{"one is there twice", append(userColumns(), all[0]), `column "id" is there twice`},
	} {
		_, err := dual.NewCodec(users, userKey, c.columns)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	codec := userCodec(t)
	comparer, err := record.NewComparer(users, nil)
	if err != nil {
		t.Fatal(err)
	}
	compare := dual.CompareBy(codec, comparer)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		u := user{id: random.IntN(1000), name: strings.Repeat("ü", random.IntN(4))}
		if random.IntN(2) == 0 {
			u.email = new(string)
		}
		r, err := codec.Encode(u)
		if err != nil {
			t.Fatal(err)
		}
		if key, err := users.KeyOf(r); err != nil || key != codec.Key(u.id) {
			t.Fatalf("key %q, %v", key, err)
		}
		back, err := codec.Decode(r)
		if err != nil || len(compare(u, back)) > 0 {
			t.Fatalf("%+v became %+v, %v", u, back, err)
		}
		other := back
		other.email = nil
		if u.email != nil && len(compare(u, other)) != 1 {
			t.Fatal("an empty text is taken for NULL")
		}
	}
}
