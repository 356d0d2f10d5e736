package testenv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisSentinel is a private master, its replica, and the one sentinel (quorum 1)
// that promotes the replica in [RedisSentinel.FailOver]. By itself it does so only when the
// master has not answered for a minute: a test on a busy machine keeps its master. No
// passwords.
type RedisSentinel struct {
	Master, Replica, Sentinel *RedisServer
	MasterName                string // "mymaster"
}

// StartRedisSentinel returns when the replica is in sync and the sentinel knows it.
func StartRedisSentinel(ctx context.Context) (*RedisSentinel, error) {
	s := &RedisSentinel{MasterName: "mymaster"}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *RedisSentinel) start(ctx context.Context) (err error) {
	if s.Master, err = StartRedis(ctx, RedisOptions{NoPassword: true, Config: []string{"repl-diskless-sync-delay 0"}}); err != nil {
		return err
	}
	master := strings.ReplaceAll(s.Master.Addr(), ":", " ")
	if s.Replica, err = StartRedis(ctx, RedisOptions{NoPassword: true, Config: []string{"replicaof " + master}}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	replica := s.Replica.client()
	defer func() { _ = replica.Close() }()
	err = await(ctx, 20*time.Millisecond, "the replica to be in sync", func() (bool, error) {
		info, _ := replica.Info(ctx, "replication").Result()
		return strings.Contains(info, "master_link_status:up"), nil
	})
	if err != nil {
		return err
	}
	s.Sentinel, err = startRedis(ctx, RedisOptions{NoPassword: true, Config: []string{
		fmt.Sprintf("sentinel monitor %s %s 1", s.MasterName, master),
		fmt.Sprintf("sentinel down-after-milliseconds %s 60000", s.MasterName),
		fmt.Sprintf("sentinel failover-timeout %s 5000", s.MasterName),
	}}, []string{"--sentinel"})
	if err != nil {
		return err
	}
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: s.Sentinel.Addr()})
	defer func() { _ = sentinel.Close() }()
	return await(ctx, 20*time.Millisecond, "the sentinel to know the replica", func() (bool, error) {
		replicas, err := sentinel.Replicas(ctx, s.MasterName).Result()
		return err == nil && len(replicas) == 1 && replicas[0]["flags"] == "slave" && replicas[0]["master-link-status"] == "ok", nil
	})
}

// Addr is the sentinel's host:port.
func (s *RedisSentinel) Addr() string { return s.Sentinel.Addr() }

// URL returns the URL for redis.ParseFailoverURL.
func (s *RedisSentinel) URL() string {
	return "redis://" + s.Sentinel.Addr() + "?master_name=" + s.MasterName
}

// FailOver ends the master and returns when the sentinel has begun to promote the replica.
func (s *RedisSentinel) FailOver(ctx context.Context) error {
	if err := s.Master.Kill(); err != nil {
		return err
	}
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: s.Sentinel.Addr()})
	defer func() { _ = sentinel.Close() }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var refused error // NOGOODSLAVE until the sentinel has heard of the replica lately
	err := await(ctx, 20*time.Millisecond, "the sentinel to begin the failover", func() (bool, error) {
		refused = sentinel.Failover(ctx, s.MasterName).Err()
		return refused == nil || strings.Contains(refused.Error(), "INPROG"), nil
	})
	if err != nil {
		return errors.Join(err, refused)
	}
	return nil
}

// Replicated returns when the replica has what the master has now.
func (s *RedisSentinel) Replicated(ctx context.Context) error {
	master, replica := s.Master.client(), s.Replica.client()
	defer func() { _, _ = master.Close(), replica.Close() }()
	want, err := replicationOffset(ctx, master, "master_repl_offset")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await(ctx, 20*time.Millisecond, "the replica to have all", func() (bool, error) {
		has, err := replicationOffset(ctx, replica, "slave_repl_offset")
		return has >= want, err
	})
}

func replicationOffset(ctx context.Context, client *redis.Client, name string) (int64, error) {
	info, err := client.InfoMap(ctx, "replication").Result()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(info["Replication"][name], 10, 64)
}

// StopReplication leaves the replica with what the master has now. The sentinel, which points it at its master again,
// does not undo that: the replica signs in as a user who does not exist.
func (s *RedisSentinel) StopReplication(ctx context.Context) error {
	if err := s.Replicated(ctx); err != nil {
		return err
	}
	replica := s.Replica.client()
	defer func() { _ = replica.Close() }()
	if err := replica.ConfigSet(ctx, "masteruser", "unknown").Err(); err != nil {
		return err
	}
	if err := replica.ConfigSet(ctx, "masterauth", "wrong").Err(); err != nil {
		return err
	}
	return replica.ReplicaOf(ctx, "127.0.0.1", "1").Err()
}

// Stop stops all three for good.
func (s *RedisSentinel) Stop(ctx context.Context) error {
	var errs []error
	for _, server := range []*RedisServer{s.Sentinel, s.Replica, s.Master} {
		if server != nil {
			errs = append(errs, server.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}
