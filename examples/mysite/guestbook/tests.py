from django.contrib.auth.models import User
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
