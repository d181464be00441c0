from django.urls import reverse_lazy
from django.views.generic import CreateView

from guestbook.models import Entry


class Guestbook(CreateView):
    """The book and the form to write in it; the session counts this visitor's visits."""

    model = Entry
    fields = ("name", "text")
    template_name = "guestbook/home.html"
    success_url = reverse_lazy("guestbook:home")

    def get_context_data(self, **kwargs):
        session = self.request.session
        session["visits"] = session.get("visits", 0) + 1
        return super().get_context_data(
            entries=Entry.objects.all()[:50], visits=session["visits"], **kwargs
        )
