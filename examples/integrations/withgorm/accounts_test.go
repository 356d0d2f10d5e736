package withgorm_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/integrations/internal/labtest"
	"github.com/stranglerfig/migrator/examples/integrations/withgorm"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const tables = `
CREATE TABLE accounts (
	id         bigint PRIMARY KEY,
	owner      text NOT NULL,
	cents      bigint NOT NULL,
	updated_at timestamptz NOT NULL,
	deleted_at timestamptz
);
INSERT INTO accounts SELECT i, 'owner ' || i, 100, '2024-01-01Z' FROM generate_series(1, 9) i;
CREATE TABLE branches (id bigint PRIMARY KEY)`

func open(t *testing.T) (*dualtest.Lab, *withgorm.Accounts, *gorm.DB) {
	t.Helper()
	lab, m := labtest.Open(t, "accounts", tables)
	db, err := gorm.Open(postgres.Open(m.Legacy.URL), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	if err := withgorm.Guard(db, "accounts"); err != nil {
		t.Fatal(err)
	}
	accounts, err := withgorm.Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(accounts)
	return lab, accounts, db
}

func TestWrites(t *testing.T) {
	t.Parallel()
	lab, accounts, _ := open(t)
	updated, deleted := dualtest.Ignore("updated_at"), dualtest.Ignore("deleted_at") // each call has its own time
	lab.Check("add", func(ctx context.Context) error { return accounts.AddCents(ctx, 1, 5) }, updated)
	lab.Check("add to none", func(ctx context.Context) error { return accounts.AddCents(ctx, 100, 5) })
	lab.Check("replace", func(ctx context.Context) error {
		return accounts.Replace(ctx, withgorm.Account{ID: 2, Owner: "Zoë", Cents: -1})
	}, updated)
	lab.Check("make", func(ctx context.Context) error {
		return accounts.Replace(ctx, withgorm.Account{ID: 20, Owner: "n"})
	}, updated)
	lab.Check("remove", func(ctx context.Context) error { return accounts.Remove(ctx, 3) }, deleted)
	lab.Check("remove again", func(ctx context.Context) error { return accounts.Remove(ctx, 3) })
	lab.Check("add to a removed one", func(ctx context.Context) error { return accounts.AddCents(ctx, 3, 5) })
	lab.Check("purge", func(ctx context.Context) error { return accounts.Purge(ctx, 3) })
	lab.Check("purge none", func(ctx context.Context) error { return accounts.Purge(ctx, 3) })
}

func TestASoftDeleteHidesTheAccount(t *testing.T) {
	t.Parallel()
	_, accounts, _ := open(t)
	for _, want := range []bool{true, false} {
		if _, found, err := accounts.Find(t.Context(), 4); found != want || err != nil {
			t.Fatalf("found %v, %v; want %v", found, err, want)
		}
		if v, found, err := accounts.Get(t.Context(), 4); !found || v.DeletedAt.Valid == want || err != nil {
			t.Fatalf("the Reader has %+v, %v, %v", v, found, err)
		}
		if want {
			if err := accounts.Remove(t.Context(), 4); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// branch is a model of another table, with accounts.
type branch struct {
	ID       int64
	Accounts []withgorm.Account `gorm:"foreignKey:Cents"`
}

func TestTheGuardRefusesWritesThatBypassTheWriter(t *testing.T) {
	t.Parallel()
	_, _, db := open(t)
	v := withgorm.Account{ID: 1}
	for name, write := range map[string]func() error{
		"create":      func() error { return db.Create(&withgorm.Account{ID: 30}).Error },
		"save":        func() error { return db.Save(&withgorm.Account{ID: 1}).Error },
		"update":      func() error { return db.Model(&v).Update("owner", "x").Error },
		"bulk update": func() error { return db.Model(&withgorm.Account{}).Where("cents > 0").UpdateColumn("cents", 0).Error },
		"delete":      func() error { return db.Delete(&withgorm.Account{}, 1).Error },
		"association": func() error { return db.Create(&branch{ID: 7, Accounts: []withgorm.Account{{ID: 31}}}).Error },
	} {
		if err := write(); !errors.Is(err, withgorm.ErrBypass) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := db.Create(&branch{ID: 8}).Error; err != nil {
		t.Errorf("another table is refused: %v", err)
	}
}
