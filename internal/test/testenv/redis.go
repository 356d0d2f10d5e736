package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions changes a private Redis. The zero value stores nothing on disk, has 16
// databases, no memory limit and a random password.
type RedisOptions struct {
	AppendOnly      bool   // appendfsync everysec, unless Config overrides it
	MaxMemory       string // "64mb"; empty: no limit
	MaxMemoryPolicy string // "allkeys-lru" …; empty: noeviction
	Databases       int    // 0: 16
	NoPassword      bool
	Config          []string // more lines of redis.conf, which override
}

// RedisServer is a private Redis. Its methods may be called from several
// goroutines.
type RedisServer struct {
	server
	args     []string
	options  RedisOptions
	password string
}

// StartRedis starts a server and returns when it answers. The error is a
// [MissingError] when there is no Redis on this machine.
func StartRedis(ctx context.Context, o RedisOptions) (*RedisServer, error) {
	return startRedis(ctx, o, nil)
}

// startRedis takes command line arguments too: a sentinel is this program with
// --sentinel.
func startRedis(ctx context.Context, o RedisOptions, args []string) (*RedisServer, error) {
	redisServer, err := findRedis(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("redis")
	if err != nil {
		return nil, err
	}
	s := &RedisServer{server: server{program: redisServer, dir: dir, quit: sigTerm}, args: args, options: o}
	if !o.NoPassword {
		s.password = rand.Text()
	}
	if err := os.Mkdir(dir.file("data"), 0o700); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, s.startOn); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

// startOn starts the server on a newly picked port.
func (s *RedisServer) startOn(ctx context.Context) (err error) {
	releasePort(s.port) // of the attempt before
	if s.port, err = freePort(); err != nil {
		return err
	}
	if err := os.WriteFile(s.dir.file("redis.conf"), []byte(s.config()), 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx)
}

func (s *RedisServer) config() string {
	o := s.options
	lines := []string{
		"bind 127.0.0.1", "port " + strconv.Itoa(s.port), "daemonize no", "dir " + s.dir.file("data"),
	}
	if len(s.args) == 0 { // settings that a sentinel does not know
		appendOnly := "no"
		if o.AppendOnly {
			appendOnly = "yes"
		}
		lines = append(lines, `save ""`, "appendonly "+appendOnly, "databases "+strconv.Itoa(max(o.Databases, 16)))
	}
	if s.password != "" {
		lines = append(lines, "requirepass "+s.password, "masterauth "+s.password)
	}
	if o.MaxMemory != "" {
		lines = append(lines, "maxmemory "+o.MaxMemory)
	}
	if o.MaxMemoryPolicy != "" {
		lines = append(lines, "maxmemory-policy "+o.MaxMemoryPolicy)
	}
	return strings.Join(append(lines, o.Config...), "\n") + "\n"
}

// start starts the server and waits until it answers. The caller holds mu.
func (s *RedisServer) start(ctx context.Context) error {
	proc, err := launch(launchSpec{
		dir: s.dir, workDir: s.dir.file("data"), program: s.program,
		args: append([]string{s.dir.file("redis.conf")}, s.args...), onDeath: sigKill,
	})
	if err != nil {
		return err
	}
	s.proc = proc
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client := s.client()
	defer func() { _ = client.Close() }()
	err = await(ctx, 5*time.Millisecond, "Redis to answer", func() (bool, error) {
		if proc.ended() {
			return false, errors.New("Redis ended while starting")
		}
		if !answers(s.Addr()) { // go-redis would retry again and again, and log it
			return false, nil
		}
		info, err := client.Info(ctx, "server").Result() // refused while it loads
		if err != nil {
			return false, nil
		}
		// On the port of another process's server ours is about to fail to bind.
		return strings.Contains(info, fmt.Sprintf("process_id:%d\r", proc.pid())) && client.Ping(ctx).Err() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w; its log:\n%s", errors.Join(err, proc.kill()), s.dir.tail())
	}
	return nil
}

func (s *RedisServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Addr(), Password: s.password, MaxRetries: -1, PoolSize: 1, DisableIdentity: true,
	})
}

// Password is empty with NoPassword.
func (s *RedisServer) Password() string { return s.password }

// URL returns the URL of database 0, for redis.ParseURL.
func (s *RedisServer) URL() string { return "redis://" + s.userinfo() + s.Addr() + "/0" }

func (s *RedisServer) userinfo() string {
	if s.password == "" {
		return ""
	}
	return ":" + s.password + "@"
}

// Restart stops the server (unless it was killed) and starts it on the same port, with the
// data on disk: by default none, else the append-only file or the last saved snapshot.
func (s *RedisServer) Restart(ctx context.Context) error { return s.restart(ctx, false) }

// RestartSaved is Restart after a SAVE, so that the data survives.
func (s *RedisServer) RestartSaved(ctx context.Context) error { return s.restart(ctx, true) }

func (s *RedisServer) restart(ctx context.Context, save bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errStopped
	}
	if save {
		client := s.client()
		client.Options().ReadTimeout = 10 * time.Minute // some millions of keys take long
		err := client.Save(ctx).Err()
		_ = client.Close()
		if err != nil {
			return fmt.Errorf("save before a restart: %w", err)
		}
	}
	if err := s.proc.stop(ctx, s.quit); err != nil {
		return err
	}
	return retryBind(ctx, s.start)
}
