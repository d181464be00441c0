"""What Django says of its plan, and what of it the code that still serves can't live with."""

import subprocess
import sys
from pathlib import Path

from sdactivate.operate.release import taken_away

FIRST = """
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Person", [("id", models.AutoField(primary_key=True)),
                                          ("age", models.IntegerField())]),
        migrations.CreateModel("Town", [("id", models.AutoField(primary_key=True))]),
    ]
"""
SECOND = """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("people", "0001_first")]
    operations = [
        migrations.AddField("person", "name", models.TextField(default="")),
        migrations.RemoveField("person", "age"),
        migrations.RenameField("person", "name", "called"),
        migrations.RenameModel("Person", "Human"),
        migrations.DeleteModel("Town"),
        migrations.RunSQL("select 1"),
    ]
"""
SETTINGS = """
INSTALLED_APPS = ["django.contrib.contenttypes", "people"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}}
"""


def test_what_django_plans(tmp_path: Path) -> None:
    package = tmp_path / "people" / "migrations"
    package.mkdir(parents=True)
    for file in (package / "__init__.py", package.parent / "__init__.py"):
        file.touch()
    (package / "0001_first.py").write_text(FIRST)
    (package / "0002_second.py").write_text(SECOND)
    (tmp_path / "project.py").write_text(SETTINGS)

    def migrate(*options: str) -> str:
        command = [sys.executable, "-m", "django", "migrate", "--no-color", *options]
        environ = {"DJANGO_SETTINGS_MODULE": "project", "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True
        ).stdout

    # On an empty database nobody misses anything, though contenttypes and people remove fields
    plan = migrate("--plan")
    assert "Remove field" in plan
    assert taken_away(plan) == []
    migrate("people", "0001_first")
    assert taken_away(migrate("--plan")) == [
        "Remove field age from person",
        "Rename field name on person to called",
        "Rename model Person to Human",
        "Delete model Town",
    ]
    migrate()
    assert taken_away(migrate("--plan")) == []
