package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/schedule"
)

// TestSystemdUnit: the unit starts an existing command, restarts it only if that may
// help, and contains no secrets.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	unit := readUnit(t, "migrator.service")
	start := strings.Fields(strings.Join(unit["ExecStart"], " "))
	if err := understood(start); err != nil || !slices.Contains(start, "serve") {
		t.Errorf("ExecStart %q: %v", start, err)
	}
	hardened(t, unit)
}

// TestReconcileUnits: the nightly run and the workers.
func TestReconcileUnits(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"migrator-reconcile.service": "reconcile run", "migrator-worker.service": "worker"} {
		unit := readUnit(t, name)
		start := strings.Join(unit["ExecStart"], " ")
		if err := understood(strings.Fields(start)); err != nil || !strings.HasPrefix(start, "/usr/local/bin/migrator "+command+" ") {
			t.Errorf("%s: ExecStart %q: %v", name, start, err)
		}
		want := map[string][]string{"Restart": {"on-failure"}, "RestartPreventExitStatus": {"2"}}
		if command != "worker" { // a run that found differences is not repeated
			want = map[string][]string{"Restart": nil, "RestartPreventExitStatus": nil, "Type": {"oneshot"}, "StateDirectory": {"migrator"}}
		}
		for key, value := range want {
			if !slices.Equal(unit[key], value) {
				t.Errorf("%s: %s is %q, want %q", name, key, unit[key], value)
			}
		}
		unit["Restart"], unit["RestartPreventExitStatus"] = []string{"on-failure"}, []string{"2"}
		hardened(t, unit)
	}
	timer := readUnit(t, "migrator-reconcile.timer")
	for key, want := range map[string]string{"OnCalendar": "*-*-* 02:00:00 UTC", "Persistent": "true", "WantedBy": "timers.target"} {
		if !slices.Equal(timer[key], []string{want}) {
			t.Errorf("%s is %q, want %q", key, timer[key], want)
		}
	}
}

// TestCronJob: it starts an existing command, never twice at a time, and contains no
// secret.
func TestCronJob(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../configs/kubernetes/reconcile-cronjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var job struct {
		APIVersion, Kind string
		Spec             struct {
			Schedule          string
			TimeZone          string `yaml:"timeZone"`
			ConcurrencyPolicy string `yaml:"concurrencyPolicy"`
			JobTemplate       struct {
				Spec struct {
					BackoffLimit *int `yaml:"backoffLimit"`
					Template     struct {
						Spec struct {
							RestartPolicy string `yaml:"restartPolicy"`
							Containers    []struct {
								Args []string
								Env  []any
							}
						}
					}
				}
			} `yaml:"jobTemplate"`
		}
	}
	if err := yaml.Unmarshal(text, &job); err != nil {
		t.Fatal(err)
	}
	s := job.Spec
	if _, err := schedule.Parse(s.Schedule); err != nil || job.Kind != "CronJob" || s.TimeZone == "" || s.ConcurrencyPolicy != "Forbid" {
		t.Errorf("%+v, %v", job, err)
	}
	pod := s.JobTemplate.Spec.Template.Spec
	if s.JobTemplate.Spec.BackoffLimit == nil || *s.JobTemplate.Spec.BackoffLimit != 0 || pod.RestartPolicy != "Never" || len(pod.Containers) != 1 {
		t.Fatalf("%+v", job)
	}
	if c := pod.Containers[0]; len(c.Env) > 0 || understood(c.Args) != nil || !slices.Contains(c.Args, "reconcile") {
		t.Errorf("%+v: %v", c, understood(c.Args))
	}
}

// readUnit reads the keys of one of configs/systemd.
func readUnit(t *testing.T, name string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../configs/systemd/" + name)
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("unknown line %q", line)
		}
		unit[key] = append(unit[key], value)
	}
	return unit
}

func hardened(t *testing.T, unit map[string][]string) {
	t.Helper()
	for key, want := range map[string]string{
		"Restart": "on-failure", "RestartPreventExitStatus": "2", "DynamicUser": "yes", "NoNewPrivileges": "yes",
		"ProtectSystem": "strict", "CapabilityBoundingSet": "", "EnvironmentFile": "/etc/migrator/environment",
	} {
		if !slices.Equal(unit[key], []string{want}) {
			t.Errorf("%s is %q, want %q", key, unit[key], want)
		}
	}
	for _, e := range unit["Environment"] {
		if strings.Contains(e, "URL") {
			t.Errorf("a URL in the unit, which every user may read: %s", e)
		}
	}
}
