import hashlib

from django.contrib.auth.models import User
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signing import Signer
from django.test import TestCase

from guestbook.models import Entry


class Book(TestCase):
    def test_shows_what_was_written(self):
        sent = self.client.post("/", {"name": "Ada", "text": "a < b"}, follow=True)
        self.assertEqual(sent.redirect_chain, [("/", 302)])
        self.assertContains(sent, "a &lt; b")
        self.assertEqual(Entry.objects.get().name, "Ada")

    def test_keeps_the_form_that_lacks_something(self):
        self.assertContains(self.client.post("/", {"name": "Ada"}), "This field is required.")

    def test_counts_visits_by_session(self):
        self.assertContains(self.client.get("/"), "visit number 1.")
        self.assertContains(self.client.get("/"), "visit number 2.")

    def test_admin(self):
        Entry.objects.create(name="Ada", text="hello")
        self.client.force_login(User.objects.create_superuser("root", password="-"))
        self.assertContains(self.client.get("/admin/guestbook/entry/"), "hello")


class Probe(TestCase):
    def test_upload_of_a_form_and_of_a_body(self):
        data = bytes(range(256)) * 1000
        wanted = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        form = self.client.post("/upload", {"file": SimpleUploadedFile("a.bin", data)})
        self.assertEqual(form.json(), {"name": "a.bin", **wanted})
        body = self.client.post("/upload", data, content_type="application/octet-stream")
        self.assertEqual(body.json(), {"name": None, **wanted})
        self.assertEqual(self.client.post("/upload", {"other": "x"}).status_code, 400)

    def test_stream(self):
        self.assertEqual(self.client.get("/stream?lines=2").getvalue(), b"line 1\nline 2\n")

    def test_use(self):
        sent = {"subject": "hello", "to": "ada@localhost"}
        used = self.client.post("/use", sent).json()
        self.assertEqual(used["database"], ["sqlite", 42])
        self.assertEqual(Signer().unsign(used["signed"]), "mysite")
        self.assertEqual(self.client.post("/use", sent).json()["state"], used["state"] + 1)
        self.assertEqual([one.subject for one in mail.outbox], ["hello", "hello"])

    def test_slow(self):
        self.assertContains(self.client.get("/slow?ms=1"), "after 1 ms")

    def test_environ(self):
        answer = self.client.get("/environ?a=1", secure=True).json()
        self.assertEqual(answer["environ"]["QUERY_STRING"], "a=1")
        self.assertTrue(answer["secure"])
