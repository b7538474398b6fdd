package app

import (
	"path/filepath"
	"testing"

	"whodunit/internal/alert/manager"
)

// The examples are copied, so they are good as they stand.
func TestExampleAlertmanager(t *testing.T) {
	if err := manager.Check(filepath.Join("..", "..", "examples", "alertmanager.yml"), []string{"pager", "chat"}); err != nil {
		t.Fatal(err)
	}
}
