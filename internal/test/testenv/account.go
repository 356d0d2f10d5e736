package testenv

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
)

// account is the user that a server runs as: PostgreSQL refuses to run as root.
type account struct {
	name     string
	uid, gid int
	switched bool // another than our own
}

// unprivileged returns our own account, or, for root, postgres, else the user nobody. PostgreSQL looks
// its user up, so a uid without a passwd entry does not work.
func unprivileged() (account, error) {
	uid := os.Geteuid()
	if uid != 0 {
		return account{uid: uid, gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid > 0 {
			return account{name: name, uid: uid, gid: gid, switched: true}, nil
		}
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody to run it as\n"+
		"Try: run this as an ordinary user, or set %s to a running server", EnvPostgresURL)
}

// give makes everything below path the account's. It stays within path although the account
// may already own it and put links there.
func (a account) give(path string) error {
	if !a.switched {
		return nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(p, a.uid, a.gid)
	})
}
