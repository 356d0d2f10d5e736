package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const sharedDatabases = 256

var (
	redisFreeMu sync.Mutex
	redisInUse  [sharedDatabases]bool
)

// redisDatabase returns a flushed database of the shared server, or of the server that the
// user named. release flushes it again and returns it.
func redisDatabase(ctx context.Context) (dbURL string, release func(), err error) {
	if named := os.Getenv(EnvRedisURL); named != "" {
		return namedDatabase(ctx, named)
	}
	s, err := sharedRedis.get(func(ctx context.Context) (*RedisServer, error) {
		return StartRedis(ctx, RedisOptions{Databases: sharedDatabases})
	})
	if err != nil {
		return "", nil, err
	}
	n, err := takeNumber()
	if err != nil {
		return "", nil, err
	}
	dbURL = fmt.Sprintf("redis://%s%s/%d", s.userinfo(), s.Addr(), n)
	if err := flush(ctx, dbURL); err != nil {
		returnNumber(n)
		return "", nil, err
	}
	return dbURL, func() { returnNumber(n) }, nil
}

func takeNumber() (int, error) {
	redisFreeMu.Lock()
	defer redisFreeMu.Unlock()
	for n, used := range redisInUse {
		if !used {
			redisInUse[n] = true
			return n, nil
		}
	}
	return 0, fmt.Errorf("all %d databases of the tests' Redis are in use at once", sharedDatabases)
}

func returnNumber(n int) {
	redisFreeMu.Lock()
	defer redisFreeMu.Unlock()
	redisInUse[n] = false
}

func flush(ctx context.Context, dbURL string) error {
	o, err := redis.ParseURL(dbURL)
	if err != nil {
		return err
	}
	o.DisableIdentity = true
	client := redis.NewClient(o)
	defer func() { _ = client.Close() }()
	return client.FlushDBAsync(ctx).Err()
}

// namedHash, in database 0 of a server that the user named, lists the databases that tests
// have used: only those are flushed when they are not empty.
const namedHash = "migrator:testenv:databases"

// namedDatabase returns a database other than 0 that is empty, or that a test used before.
// Test binaries run concurrently, so each number has a lock file.
func namedDatabase(ctx context.Context, named string) (dbURL string, release func(), err error) {
	o, err := redis.ParseURL(named)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w\nTry: redis://host:6379", EnvRedisURL, err)
	}
	o.DB, o.DisableIdentity = 0, true
	zero := redis.NewClient(o)
	defer func() { _ = zero.Close() }()
	count := 16
	if conf, err := zero.ConfigGet(ctx, "databases").Result(); err == nil {
		if n, err := strconv.Atoi(conf["databases"]); err == nil {
			count = n
		}
	}
	sum := sha256.Sum256([]byte(o.Addr))
	prefix := filepath.Join(os.TempDir(), fmt.Sprintf("migrator-%d-redis-%s-", os.Geteuid(), hex.EncodeToString(sum[:6])))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err = await(ctx, 100*time.Millisecond, "a free database of "+EnvRedisURL, func() (bool, error) {
		for n := 1; n < count; n++ {
			db := *o
			db.DB = n
			unlock, ok, err := claimNumber(ctx, zero, &db, prefix)
			if err != nil {
				return false, err
			}
			if ok {
				dbURL, release = urlOf(&db), unlock
				return true, nil
			}
		}
		return false, nil
	})
	return dbURL, release, err
}

// claimNumber locks and flushes one database; false: it is in use or the user's.
func claimNumber(ctx context.Context, zero *redis.Client, db *redis.Options, prefix string) (func(), bool, error) {
	name := strconv.Itoa(db.DB)
	f, err := os.OpenFile(prefix+name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	if ok, err := tryLock(f); err != nil || !ok {
		return nil, false, errors.Join(err, f.Close())
	}
	if !stillThere(f) {
		return nil, false, f.Close() // its last owner has just removed it
	}
	unlock := func() error { return errors.Join(os.Remove(f.Name()), f.Close()) }
	client := redis.NewClient(db)
	defer func() { _ = client.Close() }()
	size, err := client.DBSize(ctx).Result()
	ours, err2 := zero.HExists(ctx, namedHash, name).Result()
	if err := errors.Join(err, err2); err != nil || (size > 0 && !ours) {
		return nil, false, errors.Join(err, unlock())
	}
	if err := errors.Join(zero.HSet(ctx, namedHash, name, "a test's").Err(), client.FlushDBAsync(ctx).Err()); err != nil {
		return nil, false, errors.Join(err, unlock())
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = flush(ctx, urlOf(db))
		_ = unlock()
	}, true, nil
}

// stillThere reports whether the locked file is still the one at its path, which others will
// lock.
func stillThere(f *os.File) bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(f.Name())
	return err == nil && os.SameFile(locked, now)
}

func urlOf(o *redis.Options) string {
	u := url.URL{Scheme: "redis", Host: o.Addr, Path: strconv.Itoa(o.DB)}
	if o.TLSConfig != nil {
		u.Scheme = "rediss"
	}
	if o.Password != "" {
		u.User = url.UserPassword(o.Username, o.Password)
	}
	return u.String()
}
